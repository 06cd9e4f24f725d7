"""Activations replaced by a fixed profile in their order."""

from __future__ import annotations

__all__ = ["RAS", "follow_profile"]

import torch
from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.heads.base.fit import State
from featood.heads.base.last_layer import classifier_state
from featood.heads.base.rows import SelectedRows
from featood.heads.base.summed_head import SummedHead
from featood.heads.registry import register
from featood.heads.reshaping._reshaping_head import ReshapingHead
from featood.numerics.moments import ClassSums


@register(
    "ras",
    title="Ranked activation shift (RAS)",
    paper="Guglielmo and Masana, Ranked Activation Shift for Post-Hoc Out-of-Distribution Detection, arXiv",
    year=2026,
    url="https://arxiv.org/abs/2604.08572",
    needs=("features", "classifier"),
)
class RAS(SummedHead, ReshapingHead):
    """Score the logits of a profile whose entries are in the order of the activations.

    The i-th smallest activation of a row is replaced by the mean i-th smallest activation of the training rows, so that
    a row is described by the order of its activations alone. Equal activations, such as zeros after a ReLU, are ordered
    by their position; their order in the authors' code is arbitrary. There is nothing to tune.
    """

    def accumulate(self, statistics: ClassSums | None, block: FeatureSet) -> ClassSums:
        """Add a block's sorted rows to the sum."""
        return ClassSums.of(self.vectors(block).sort(dim=1).values, None, statistics)

    def finish(self, statistics: ClassSums, train: SelectedRows) -> State:
        """Keep the profile ``[D]``, ascending, and the classifier."""
        return {"profile": statistics.mean(), **classifier_state(train, self.feature)}

    def reshape(self, features: Tensor, fitted: State) -> Tensor:
        """Replace the activations."""
        return follow_profile(features, fitted["profile"].to(features.dtype))


def follow_profile(rows: Tensor, profile: Tensor) -> Tensor:
    """Arrange an ascending profile ``[D]`` in the order of the entries of rows ``[B, D]``; ties by position."""
    order = rows.argsort(dim=1, stable=True)
    return torch.empty_like(rows).scatter_(1, order, profile.expand_as(rows))
