"""Unnormalised mixture of Gaussians, one for each class."""

from __future__ import annotations

__all__ = ["GEM"]

from typing import Any

from torch import Tensor

from featood.heads.distances.mahalanobis import Mahalanobis
from featood.heads.registry import register
from featood.numerics.gaussian import squared_distances


@register(
    "gem",
    title="Gaussian mixture based energy measurement (GEM)",
    paper="Morteza and Li, Provable Guarantees for Understanding Out-of-Distribution Detection, AAAI",
    year=2022,
    url="https://arxiv.org/abs/2112.00787",
    needs=("features", "labels"),
)
class GEM(Mahalanobis):
    """Score ``-log sum_c exp(-d_c(z) / 2)`` with the squared distances d_c of the Mahalanobis head.

    Computed in log space, so that rows far from every class get distinct scores. Higher means more out-of-distribution.
    """

    def score_rows(self, rows: Tensor, fitted: Any) -> Tensor:
        """Return the negated log of the sum over classes ``[B]``."""
        map_, means = fitted
        return -(-squared_distances(map_(rows), means) / 2).logsumexp(1)
