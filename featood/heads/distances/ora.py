"""Angle to the classifier's decision boundaries, seen from the mean of the training features."""

from __future__ import annotations

__all__ = ["ORA", "boundary_angles"]

from typing import Any

import torch
from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.heads.base.fit import State
from featood.heads.base.last_layer import linear_logits
from featood.heads.distances._mean_head import MeanHead, boundary_widths
from featood.heads.registry import register
from featood.options import option


@register(
    "ora",
    title="Relative angles to the decision boundaries (ORA)",
    paper="Demirel et al., Out-of-Distribution Detection with Relative Angles, NeurIPS",
    year=2025,
    url="https://arxiv.org/abs/2410.04525",
    needs=("features", "classifier"),
)
class ORA(MeanHead):
    """Score the negated largest angle between ``z - mu`` and ``z_c - mu``.

    mu is the mean of the training features, and z_c the point nearest to z on the boundary between the predicted class
    and class c. The paper takes the maximum over the boundaries; the authors' contribution to OpenOOD has the mean as
    its default (``over=mean``). Their code averages the means of the classes, which is mu if all classes have as many
    rows. Pairs of classes with identical weights have no boundary; their angle counts as 0, as does that of a row on
    the mean. Higher means more out-of-distribution.
    """

    over: str = option("max", "maximum or mean over the boundaries", choices=("max", "mean"))

    def prepare(self, state: State) -> Any:
        """Measure the distances between the class weights ``[C, C]``."""
        return state, boundary_widths(state["weight"])

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Return the negated angle in radians ``[B]``."""
        state, widths = fitted
        rows = self.vectors(block).double()
        offsets = linear_logits(state["mean"][None], state)
        angles = boundary_angles(rows - state["mean"], linear_logits(rows, state), offsets, widths)
        return -(angles.amax(1) if self.over == "max" else angles.sum(1) / max(angles.shape[1] - 1, 1))


def boundary_angles(centred: Tensor, logits: Tensor, offsets: Tensor, widths: Tensor) -> Tensor:
    """Angles between each row and its nearest points on the boundaries of the predicted class.

    Parameters
    ----------
    centred : Tensor
        ``[B, D]`` rows minus the point from which the angles are seen.
    logits : Tensor
        ``[B, C]`` logits of the rows.
    offsets : Tensor
        ``[1, C]`` logits of that point.
    widths : Tensor
        ``[C, C]`` distances between the weights, of :func:`boundary_widths`.

    Returns
    -------
    Tensor
        ``[B, C]`` angles in radians, in float32; 0 where there is no boundary.
    """
    top, predicted = logits.max(1, keepdim=True)
    own = predicted[:, 0]
    distances = (top - logits) / widths[own]
    # the component of a row along the normal of a boundary, from logits, as differences of weights take [C, C, D]
    towards = ((top - offsets[0][predicted]) - (logits - offsets)) / widths[own]
    squares = centred.square().sum(1, keepdim=True)
    across = (squares - towards.square()).clamp(min=0).sqrt()
    relative = distances / squares.clamp(min=1e-300)
    # ONNX Runtime has the arctangent in float32 only
    return torch.atan2((relative * across).float(), (1 - relative * towards).float())
