"""Whitened discriminant analysis: distances in the space that tells classes apart, and outside of it."""

from __future__ import annotations

__all__ = ["WDiscOOD"]

from typing import Any

import torch
from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.heads.base.declaration import option
from featood.heads.base.fit import State
from featood.heads.base.rows import SelectedRows
from featood.heads.distances.mahalanobis import Mahalanobis
from featood.heads.registry import register
from featood.numerics.gaussian import squared_distances
from featood.numerics.moments import ClassMoments

ROUNDING = 1e-12
"""Fisher ratio, relative to the largest and to one, up to which class means do not differ but by rounding."""


@register(
    "wdiscood",
    title="WDiscOOD: whitened linear discriminant analysis",
    paper="Chen et al., WDiscOOD: Out-of-Distribution Detection via Whitened Linear Discriminant Analysis, ICCV",
    year=2023,
    url="https://arxiv.org/abs/2303.07543",
    needs=("features", "labels"),
)
class WDiscOOD(Mahalanobis):
    """Score ``min_c |Q'(x - m_c)| + a |(I - QQ')(x - m)|`` of features x whitened within classes, m their mean.

    The columns of Q are the leading eigenvectors of the whitened scatter between classes, in which each class counts
    the same: the discriminants, at most one fewer than classes. Near a class is told by the first distance; the second
    is that from all rows in the directions in which classes do not differ. The covariance within classes is estimated
    as the Mahalanobis head's is. The authors use a = 5 for a ResNet-50 on ImageNet, and for a ViT a = 1 with 512
    discriminants in the space l2. Higher means more out-of-distribution.
    """

    discriminants: int = option(
        0, "discriminants to keep at most (0: all in which class means differ)", low=0
    )
    weight: float = option(1.0, "weight of the distance outside of the discriminants", low=0)

    def finish(self, statistics: ClassMoments, train: SelectedRows) -> State:
        """Turn the whitened space so that the discriminants come first."""
        state = super().finish(statistics, train)
        means = state["means"]  # around zero, the mean of all rows
        _, lengths, axes = torch.linalg.svd(means, full_matrices=len(means) < means.shape[1])
        ratios = lengths.square() / len(means)
        kept = int((ratios > ROUNDING * ratios.max().clamp(min=1)).sum())
        kept = min(kept, self.discriminants or kept)
        return {**state, "matrix": state["matrix"] @ axes.T, "means": means @ axes[:kept].T}

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Return the distance to the nearest class, and by its weight that outside of the discriminants ``[B]``."""
        map_, means = fitted
        inside, outside = map_(self.vectors(block)).tensor_split([means.shape[1]], 1)
        return squared_distances(inside, means).amin(1).sqrt() + self.weight * outside.norm(dim=1)
