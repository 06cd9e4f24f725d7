"""Relative Mahalanobis distance on features of unit length."""

from __future__ import annotations

__all__ = ["RelativeMahalanobisPP"]

from featood.heads.base.feature_head import space_option
from featood.heads.distances.relative_mahalanobis import RelativeMahalanobis
from featood.heads.registry import register


@register(
    "rmd-pp",
    title="Relative Mahalanobis++ (RMD++)",
    paper="Mueller and Hein, Mahalanobis++: Improving OOD Detection via Feature Normalization, ICML",
    year=2025,
    url="https://arxiv.org/abs/2505.18032",
    needs=("features", "labels"),
)
class RelativeMahalanobisPP(RelativeMahalanobis):
    """Score features normalised to unit length with the relative Mahalanobis head; higher means more OOD."""

    space: str = space_option("l2")
