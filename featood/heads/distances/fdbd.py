"""Distance to the classifier's decision boundaries."""

from __future__ import annotations

__all__ = ["FDBD"]

from typing import Any

import torch
from torch import Tensor

from featood.cache.feature_set import ROWS, FeatureSet
from featood.heads.base.feature_head import RawFeatures, StreamingHead
from featood.heads.base.fit import State
from featood.heads.base.last_layer import classifier_state, linear_logits
from featood.heads.base.rows import SelectedRows
from featood.heads.registry import register
from featood.numerics.gaussian import squared_distances
from featood.numerics.moments import ScatterByClass


@register(
    "fdbd",
    title="Fast decision boundary distance (fDBD)",
    paper="Liu and Qin, Fast Decision Boundary Based Out-of-Distribution Detector, ICML",
    year=2024,
    url="https://arxiv.org/abs/2312.11536",
    needs=("features", "classifier"),
)
class FDBD(RawFeatures, StreamingHead):
    """Score the negated mean distance to the boundaries of the predicted class, relative to ``|z - mu|``.

    The distance to the boundary between classes y and c is ``|l_y - l_c| / |w_y - w_c|``; mu is the mean of the
    training features. Pairs of classes with identical weights have no boundary and are skipped. OpenOOD divides by
    ``|z|`` instead if that does better on validation outliers. Higher means more OOD.
    """

    def accumulate(self, statistics: ScatterByClass | None, block: FeatureSet) -> ScatterByClass:
        """Add a block's rows to the sum."""
        rows = self.vectors(block)
        one = torch.zeros(len(rows), dtype=torch.long, device=rows.device)
        return ScatterByClass.of(rows, one, statistics, diagonal=True)

    def finish(self, statistics: ScatterByClass, train: SelectedRows) -> State:
        """Keep the mean and the classifier."""
        return {"mean": statistics.means()[0], **classifier_state(train, self.feature)}

    def prepare(self, state: State) -> Any:
        """Measure the distances between the class weights ``[C, C]``."""
        weight = state["weight"].double()
        least = 1e-12 * weight.square().sum(1).amax()
        gaps = weight.new_empty(len(weight), len(weight))
        for place, part in zip(
            gaps.split(ROWS), weight.split(ROWS), strict=True
        ):  # in chunks, to bound the temporaries with many classes
            squares = squared_distances(part, weight)
            place.copy_(squares.masked_fill_(squares <= least, torch.inf).sqrt_())
        return state, gaps

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Return the negated relative distance to the boundaries ``[B]``."""
        state, gaps = fitted
        rows = self.vectors(block).double()
        top, predicted = (logits := linear_logits(rows, state)).max(1)
        boundaries = ((top[:, None] - logits) / gaps[predicted]).sum(1) / max(logits.shape[1] - 1, 1)
        length = (rows - state["mean"]).norm(dim=1)
        least = 1e-9 * (rows.norm(dim=1) + state["mean"].norm())  # a row on the mean stays finite
        return -boundaries / length.maximum(least).clamp(min=1e-30)
