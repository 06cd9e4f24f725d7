"""Mahalanobis distance on features of unit length."""

from __future__ import annotations

__all__ = ["MahalanobisPP"]

from featood.heads.base.feature_head import space_option
from featood.heads.distances.mahalanobis import Mahalanobis
from featood.heads.registry import register


@register(
    "mahalanobis-pp",
    title="Mahalanobis++",
    paper="Mueller and Hein, Mahalanobis++: Improving OOD Detection via Feature Normalization, ICML",
    year=2025,
    url="https://arxiv.org/abs/2505.18032",
    needs=("features", "labels"),
)
class MahalanobisPP(Mahalanobis):
    """Score features normalised to unit length with the Mahalanobis head; higher means more out-of-distribution."""

    space: str = space_option("l2")
