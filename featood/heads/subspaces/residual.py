"""Norm of the residual of the feature outside the principal subspace."""

from __future__ import annotations

__all__ = ["Residual", "origin", "principal_space"]

from typing import Any

import torch
from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.errors import DataError, UsageError
from featood.heads.base.feature_head import RawFeatures
from featood.heads.base.fit import State
from featood.heads.base.last_layer import classifier_state
from featood.heads.base.moments_head import MomentsHead
from featood.heads.base.rows import SelectedRows
from featood.heads.registry import register
from featood.numerics.moments import ClassMoments
from featood.numerics.subspaces import Subspace, principal_axes, rank, subspace
from featood.options import option


def origin(layer: State) -> Tensor:
    """Point ``u = -pinv(W) b`` ``[D]`` at which the classifier's logits are closest to zero, in float64.

    Weights whose rows sum to zero, a result of weight decay, are singular up to float32 rounding. Singular values
    below that precision are not inverted.
    """
    weight, bias = layer["weight"].double(), layer["bias"].double()
    wide = len(weight) <= weight.shape[1]
    # eigenvalues of the smaller Gram matrix are the squared singular values, and take a third of the time
    values, axes = principal_axes(weight @ weight.T if wide else weight.T @ weight)
    least = (max(weight.shape) * torch.finfo(torch.float32).eps) ** 2 * values[0]
    inverse = axes * torch.where(values > least, 1 / values, 0)
    return -(weight.T @ (inverse @ (axes.T @ bias)) if wide else inverse @ (axes.T @ (weight.T @ bias)))


def principal_space(moments: ClassMoments, center: Tensor, dim: int = 0) -> Subspace:
    """Principal subspace of features around a given origin.

    Parameters
    ----------
    moments : ClassMoments
        Moments of the features.
    center : Tensor
        ``[D]`` origin.
    dim : int
        Dimension; 0 for ViM's rule: 1,000 if D >= 1,500, 512 if D >= 768, otherwise D / 2. If the features span
        no more dimensions than that, half the dimensions that they span.

    Raises
    ------
    UsageError
        If the complement of a subspace of dimension `dim` contains no direction of the features.
    DataError
        If the features span fewer than two dimensions.
    """
    offset = moments.mean() - center
    values, axes = principal_axes(moments.covariance() + torch.outer(offset, offset))
    size, spanned = len(values), rank(values)
    if spanned < 2:
        raise DataError("the features span only one dimension, which leaves no residual; use other features")
    if dim >= spanned:
        raise UsageError(
            f"the features span {spanned} of {size} dimensions; --dim must be below {spanned}, not {dim}"
        )
    usual = 1000 if size >= 1500 else 512 if size >= 768 else size // 2
    return subspace(axes, values, dim or (usual if usual < spanned else spanned // 2))


@register(
    "residual",
    title="Residual of the principal subspace",
    paper="Wang et al., ViM: Out-of-Distribution with Virtual-Logit Matching, CVPR",
    year=2022,
    url="https://arxiv.org/abs/2203.10807",
    needs=("features", "classifier"),
)
class Residual(RawFeatures, MomentsHead):
    """Score the norm of ``z - u`` outside the principal subspace around ``u = -pinv(W) b``.

    Adding a constant to all biases leaves the softmax unchanged, but moves u and changes the score. Higher means more
    out-of-distribution.
    """

    dim: int = option(
        0, "dimension of the principal subspace (0: 1000, 512 or half, depending on the feature size)", low=0
    )

    def finish(self, statistics: ClassMoments, train: SelectedRows) -> State:
        """Compute the principal subspace around the origin."""
        center = origin(classifier_state(train, self.feature))
        return {"origin": center, **principal_space(statistics, center, self.dim)._asdict()}

    def prepare(self, state: State) -> Any:
        """Restore the subspace."""
        return {**state, "space": Subspace.of(state)}

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Return the norm of the residual ``[B]``."""
        return fitted["space"].outside(self.vectors(block), fitted["origin"])
