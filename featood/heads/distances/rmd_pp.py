"""Relative Mahalanobis distance on features of unit length."""

from __future__ import annotations

__all__ = ["RelativeMahalanobisPP"]

from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.heads.distances.relative_mahalanobis import RelativeMahalanobis
from featood.heads.registry import register
from featood.numerics.vectors import unit


@register(
    "rmd-pp",
    title="Relative Mahalanobis++ (RMD++)",
    paper="Mueller and Hein, Mahalanobis++: Improving OOD Detection via Feature Normalization, ICML",
    year=2025,
    url="https://arxiv.org/abs/2505.18032",
    needs=("features", "labels"),
)
class RelativeMahalanobisPP(RelativeMahalanobis):
    """Score of the relative Mahalanobis head on features scaled to unit length; higher means more OOD."""

    def vectors(self, block: FeatureSet) -> Tensor:
        """Return the features of a block, each of unit length ``[B, D]``."""
        return unit(super().vectors(block))
