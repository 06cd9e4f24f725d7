"""Simplified Hopfield energy: inner product with the predicted class's pattern."""

from __future__ import annotations

__all__ = ["SHE"]


import torch
from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.heads.base.correct_rows import is_correct, no_correct_rows
from featood.heads.base.feature_head import StreamingHead
from featood.heads.base.fit import State
from featood.heads.base.rows import SelectedRows
from featood.heads.registry import register
from featood.numerics.moments import ScatterByClass


@register(
    "she",
    title="Simplified Hopfield energy (SHE)",
    paper="Zhang et al., Out-of-Distribution Detection Based on In-Distribution Data Patterns Memorization "
    "with Modern Hopfield Energy, ICLR",
    year=2023,
    url="https://openreview.net/forum?id=KkazG4lgKL",
    needs=("features", "logits", "labels"),
)
class SHE(StreamingHead):
    """Score ``-<z, S_c>``, S_c being the mean feature of the rows correctly classified as the predicted class c.

    A class without correctly classified rows has no pattern; rows predicted as such a class are compared with the
    pattern of the most likely class that has one. OpenOOD divides by zero rows in this case and returns NaN; otherwise
    the two agree. Higher means more out-of-distribution.
    """

    def accumulate(self, statistics: ScatterByClass | None, block: FeatureSet) -> ScatterByClass:
        """Add the correctly classified rows of a block."""
        assert block.labels is not None
        labels: Tensor = block.labels  # type: ignore[assignment]
        return ScatterByClass.of(
            self.vectors(block),
            labels.where(is_correct(block), torch.full_like(labels, -1)),
            statistics,
            diagonal=True,
        )

    def finish(self, statistics: ScatterByClass, train: SelectedRows) -> State:
        """Keep the mean of each class."""
        if not bool(statistics.count.any()):
            raise no_correct_rows(self.name, train)
        patterns = statistics.total.new_full((train.num_classes, len(statistics.shift)), torch.nan)
        patterns[statistics.classes] = statistics.means()
        return {"patterns": patterns}

    def score_block(self, block: FeatureSet, fitted: State) -> Tensor:
        """Return the negated inner product with the pattern of the predicted class ``[B]``."""
        assert block.logits is not None
        patterns = fitted["patterns"]
        logits = block.logits[:].double().masked_fill(patterns[:, 0].isnan(), -torch.inf)
        return -(self.vectors(block).double() * patterns[logits.argmax(1)]).sum(1)
