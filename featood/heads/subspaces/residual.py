"""Length of the feature outside of the principal subspace."""

from __future__ import annotations

__all__ = ["Residual", "origin", "principal_space"]

import torch
from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.errors import DataError, UsageError
from featood.heads.base.declaration import option
from featood.heads.base.feature_head import RawFeatures, StreamingHead
from featood.heads.base.fit import State
from featood.heads.base.last_layer import classifier_state
from featood.heads.base.rows import SelectedRows
from featood.heads.registry import register
from featood.numerics.moments import ClassMoments
from featood.numerics.subspaces import Subspace, principal_axes, rank, subspace


def origin(layer: State) -> Tensor:
    """Point ``u = -pinv(W) b`` ``[D]`` at which the classifier's logits are as near zero as can be, in float64.

    Weights whose rows sum to zero, as weight decay makes them, are singular up to the rounding of float32. What
    is below that is not inverted.
    """
    weight = layer["weight"].double()
    inverse = torch.linalg.pinv(weight, rtol=max(weight.shape) * torch.finfo(torch.float32).eps)
    return -inverse @ layer["bias"].double()


def principal_space(moments: ClassMoments, center: Tensor, dim: int = 0) -> Subspace:
    """Principal subspace of features around a given origin.

    Parameters
    ----------
    moments : ClassMoments
        Moments of the features.
    center : Tensor
        ``[D]`` origin.
    dim : int
        Dimension; 0 takes ViM's rule: 1,000 where D >= 1,500, 512 where D >= 768, else D / 2. Where the features
        span no more than that, half of what they span.

    Raises
    ------
    UsageError
        When `dim` leaves no direction of the features outside.
    DataError
        When the features span less than two directions.
    """
    offset = moments.mean() - center
    values, axes = principal_axes(moments.covariance() + torch.outer(offset, offset))
    size, spanned = len(values), rank(values)
    if spanned < 2:
        raise DataError(
            "the features span one direction only, which leaves no residual; other features are needed"
        )
    if dim >= spanned:
        raise UsageError(
            f"the features span {spanned} of {size} directions; --dim must be below that, not {dim}"
        )
    usual = 1000 if size >= 1500 else 512 if size >= 768 else size // 2
    return subspace(axes, dim or (usual if usual < spanned else spanned // 2))


@register(
    "residual",
    title="Residual of the principal subspace",
    paper="Wang et al., ViM: Out-of-Distribution with Virtual-Logit Matching, CVPR",
    year=2022,
    url="https://arxiv.org/abs/2203.10807",
    needs=("features", "classifier"),
)
class Residual(RawFeatures, StreamingHead):
    """Score the length of ``z - u`` outside of the principal subspace around ``u = -pinv(W) b``.

    A constant on all biases, which the softmax does not tell, moves u and so the score. Higher means more
    out-of-distribution.
    """

    dim: int = option(
        0, "dimension of the principal subspace (0: 1000, 512 or half, by the feature size)", low=0
    )

    def accumulate(self, statistics: ClassMoments | None, block: FeatureSet) -> ClassMoments:
        """Add a block's rows to the moments."""
        return ClassMoments.of(self.vectors(block), None, statistics)

    def finish(self, statistics: ClassMoments, train: SelectedRows) -> State:
        """Split the space around the origin."""
        center = origin(classifier_state(train, self.feature))
        return {"origin": center, **principal_space(statistics, center, self.dim)._asdict()}

    def score_block(self, block: FeatureSet, fitted: State) -> Tensor:
        """Return the length of the residual ``[B]``."""
        space = Subspace(fitted["basis"], fitted["direct"])
        return space.norms(self.vectors(block).double() - fitted["origin"])[1]
