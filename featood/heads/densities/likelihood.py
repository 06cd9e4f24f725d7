"""The log-density, or the energy, that a network computed of its inputs."""

from __future__ import annotations

__all__ = ["Likelihood"]

from typing import Any

from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.heads.densities._density_head import DensityHead
from featood.heads.registry import register


@register(
    "likelihood",
    title="Likelihood of the inputs",
    paper="Bishop, Novelty Detection and Neural Network Validation, IEE Proc. Vision, Image and Signal Processing",
    year=1994,
    url="https://doi.org/10.1049/ip-vis:19941330",
    needs=("features",),
    learns=False,
)
class Likelihood(DensityHead):
    """Score ``-log p(x)`` in nats, by a network that is a density of its inputs, or its energy.

    Densities of images also depend on their complexity: they are often higher for images simpler than those of the
    training (Nalisnick et al., Do Deep Generative Models Know What They Don't Know?, ICLR 2019).
    """

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Return the negated log-densities, or the energies ``[B]``."""
        return -self.log_densities(block)
