"""Mahalanobis distance relative to that from all training rows."""

from __future__ import annotations

__all__ = ["RelativeMahalanobis"]

from typing import Any

from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.heads.base import State
from featood.heads.distances.mahalanobis import Mahalanobis
from featood.heads.registry import register
from featood.heads.rows import SelectedRows
from featood.numerics.gaussian import Whitening, squared_distances
from featood.numerics.moments import ClassMoments


@register(
    "relative-mahalanobis",
    title="Relative Mahalanobis distance (RMD)",
    paper="Ren et al., A Simple Fix to Mahalanobis Distance for Improving Near-OOD Detection, ICML UDL workshop",
    year=2021,
    url="https://arxiv.org/abs/2106.09022",
    needs=("features", "labels"),
)
class RelativeMahalanobis(Mahalanobis):
    """Score ``min_c d_c(z) - d_0(z)``, d_0 being the squared distance under one Gaussian of all rows.

    Both covariances are divided by the number of rows, so that the two distances are of one scale. Higher
    means more out-of-distribution; the score may be negative. Computed in float64, for the difference cancels.
    """

    def finish(self, statistics: ClassMoments, train: SelectedRows) -> State:
        """Add the background Gaussian to the tied one."""
        center = statistics.mean()
        background = self.whitening(center, statistics.covariance(), "the covariance of all rows")
        state = {f"background_{name}": part for name, part in background._asdict().items()}
        return {**super().finish(statistics, train), **state}

    def prepare(self, state: State) -> Any:
        """Rebuild both whitening maps."""
        background = Whitening(*(state[f"background_{name}"] for name in Whitening._fields))
        return super().prepare(state), background

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Return the nearest class's squared distance less the background's ``[B]``."""
        (map_, means), background = fitted
        rows = self.vectors(block).double()
        return squared_distances(map_(rows), means).amin(1) - background(rows).square().sum(1)
