"""Mahalanobis distance on features of unit length."""

from __future__ import annotations

__all__ = ["MahalanobisPP"]

from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.heads.distances.mahalanobis import Mahalanobis
from featood.heads.registry import register
from featood.numerics.vectors import unit


@register(
    "mahalanobis-pp",
    title="Mahalanobis++",
    paper="Mueller and Hein, Mahalanobis++: Improving OOD Detection via Feature Normalization, ICML",
    year=2025,
    url="https://arxiv.org/abs/2505.18032",
    needs=("features", "labels"),
)
class MahalanobisPP(Mahalanobis):
    """Score of the Mahalanobis head on features scaled to unit length; higher means more out-of-distribution."""

    def vectors(self, block: FeatureSet) -> Tensor:
        """Return the features of a block, each of unit length ``[B, D]``."""
        return unit(super().vectors(block))
