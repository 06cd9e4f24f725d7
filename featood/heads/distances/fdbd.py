"""Distance to the classifier's decision boundaries."""

from __future__ import annotations

__all__ = ["FDBD"]

from typing import Any

from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.heads.base.fit import State
from featood.heads.base.last_layer import linear_logits
from featood.heads.distances._mean_head import MeanHead, boundary_widths
from featood.heads.registry import register
from featood.options import option


@register(
    "fdbd",
    title="Fast decision boundary distance (fDBD)",
    paper="Liu and Qin, Fast Decision Boundary Based Out-of-Distribution Detector, ICML",
    year=2024,
    url="https://arxiv.org/abs/2312.11536",
    needs=("features", "classifier"),
)
class FDBD(MeanHead):
    """Score the negated mean distance to the boundaries of the predicted class, relative to ``|z - mu|``.

    The distance to the boundary between classes y and c is ``|l_y - l_c| / |w_y - w_c|``; mu is the mean of the
    training features. Pairs of classes with identical weights have no boundary and are skipped. OpenOOD, to which the
    authors contributed the method, divides by ``|z|`` instead if that does better on validation outliers
    (``relative_to=norm``). Higher means more OOD.
    """

    relative_to: str = option(
        "mean", "divide by the distance from the training mean, or by the norm", choices=("mean", "norm")
    )

    def prepare(self, state: State) -> Any:
        """Measure the distances between the class weights ``[C, C]``."""
        return state, boundary_widths(state["weight"])

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Return the negated relative distance to the boundaries ``[B]``."""
        state, widths = fitted
        rows = self.vectors(block).double()
        top, predicted = (logits := linear_logits(rows, state)).max(1)
        boundaries = ((top[:, None] - logits) / widths[predicted]).sum(1) / max(logits.shape[1] - 1, 1)
        if self.relative_to == "norm":
            return -boundaries / rows.norm(dim=1).clamp(min=1e-30)
        length = (rows - state["mean"]).norm(dim=1)
        least = 1e-9 * (rows.norm(dim=1) + state["mean"].norm())  # a row on the mean stays finite
        return -boundaries / length.maximum(least).clamp(min=1e-30)
