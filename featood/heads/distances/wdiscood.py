"""Whitened discriminant analysis: distances in the discriminative space and in its complement."""

from __future__ import annotations

__all__ = ["WDiscOOD"]

from typing import Any

import torch
from torch import Tensor

from featood.heads.base.fit import State
from featood.heads.base.rows import SelectedRows
from featood.heads.distances.mahalanobis import Mahalanobis
from featood.heads.registry import register
from featood.numerics.gaussian import nearest_squared_distances
from featood.numerics.moments import ClassMoments
from featood.options import option

ROUNDING = 1e-12
"""Threshold on the Fisher ratio, relative to the largest and to one, below which means differ only by rounding."""


@register(
    "wdiscood",
    title="WDiscOOD: whitened linear discriminant analysis",
    paper="Chen et al., WDiscOOD: Out-of-Distribution Detection via Whitened Linear Discriminant Analysis, ICCV",
    year=2023,
    url="https://arxiv.org/abs/2303.07543",
    needs=("features", "labels"),
)
class WDiscOOD(Mahalanobis):
    """Score ``min_c |Q'(x - m_c)| + a |(I - QQ')(x - m)|`` of features x whitened within classes, with mean m.

    The columns of Q are the discriminants: the leading eigenvectors of the whitened between-class scatter, in which all
    classes have equal weight. There are at most one fewer than classes. The first term is the distance to the nearest
    class in the discriminative space, the second the distance to the overall mean in its complement, where the classes
    do not differ. The within-class covariance is estimated as in the Mahalanobis head. The authors use a = 5 for a
    ResNet-50 on ImageNet, and a = 1 with 512 discriminants in the space l2 for a ViT. Higher means more
    out-of-distribution.
    """

    discriminants: int = option(
        0, "maximum number of discriminants (0: all in which the class means differ)", low=0
    )
    weight: float = option(
        1.0, "weight a of the distance in the complement of the discriminative space", low=0
    )

    def finish(self, statistics: ClassMoments, train: SelectedRows) -> State:
        """Rotate the whitened space so that the discriminants come first."""
        state = super().finish(statistics, train)
        means = state["means"]  # relative to the mean of all rows, which is at zero
        _, lengths, axes = torch.linalg.svd(means, full_matrices=len(means) < means.shape[1])
        ratios = lengths.square() / len(means)
        kept = int((ratios > ROUNDING * ratios.max().clamp(min=1)).sum())
        kept = min(kept, self.discriminants or kept)
        return {**state, "matrix": state["matrix"] @ axes.T, "means": means @ axes[:kept].T}

    def score_rows(self, rows: Tensor, fitted: Any) -> Tensor:
        """Return the distance to the nearest class plus the weighted distance in the complement ``[B]``."""
        map_, means = fitted
        inside, outside = map_(rows).tensor_split([means.shape[1]], 1)
        return nearest_squared_distances(inside, means).sqrt() + self.weight * outside.norm(dim=1)
