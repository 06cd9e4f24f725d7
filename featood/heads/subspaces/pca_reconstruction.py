"""Regularised reconstruction error of a principal component analysis."""

from __future__ import annotations

__all__ = ["PCAReconstruction"]

from typing import Any

import torch
from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.heads.base.fit import State
from featood.heads.base.moments_head import MomentsHead
from featood.heads.base.rows import SelectedRows
from featood.heads.registry import register
from featood.numerics.moments import ClassMoments
from featood.numerics.subspaces import Subspace, principal_axes, subspace
from featood.options import option


@register(
    "pca-reconstruction",
    title="Regularised PCA reconstruction error",
    paper="Guan et al., Revisit PCA-based Technique for Out-of-Distribution Detection, ICCV",
    year=2023,
    needs=("features",),
)
class PCAReconstruction(MomentsHead):
    """Score ``|(I - P)(z - mu)| / |z|``, P being the projection on the leading principal components.

    The division by the norm of z is the regularisation: features of outliers tend to have a small norm. Higher means
    more out-of-distribution.
    """

    dim: int = option(0, "components (0: an eighth of the feature size, the authors' 256 of 2,048)", low=0)

    def finish(self, statistics: ClassMoments, train: SelectedRows) -> State:
        """Compute the principal subspace around the mean."""
        values, axes = principal_axes(statistics.covariance())
        size = len(axes)
        space = subspace(axes, values, min(self.dim or max(size // 8, 1), size))
        return {"mean": statistics.mean(), **space._asdict()}

    def prepare(self, state: State) -> Any:
        """Restore the subspace."""
        return {**state, "space": Subspace.of(state)}

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Return the relative reconstruction error ``[B]``."""
        rows = self.vectors(block)
        error = fitted["space"].outside(rows, fitted["mean"])
        least = 1e-9 * fitted["mean"].norm().clamp(
            min=torch.finfo(torch.float32).tiny
        )  # a row of zeros gets a large score
        return error / rows.double().norm(dim=1).maximum(least)
