"""Directed sparsification: the classifier with only its most contributing weights."""

from __future__ import annotations

__all__ = ["DICE"]

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from featood.heads.base.fit import State
from featood.heads.base.rows import SelectedRows
from featood.heads.registry import register
from featood.heads.reshaping._reshaping_head import ReshapingHead
from featood.numerics.quantiles import quantiles
from featood.options import option


@register(
    "dice",
    title="Directed sparsification (DICE)",
    paper="Sun and Li, DICE: Leveraging Sparsification for Out-of-Distribution Detection, ECCV",
    year=2022,
    url="https://arxiv.org/abs/2111.09805",
    needs=("features", "classifier"),
)
class DICE(ReshapingHead):
    """Score the logits of the classifier with its least contributing weights set to zero.

    The contribution of a weight is ``W_cd`` times the mean activation d of the training rows; those at or below
    the quantile p of all contributions are dropped. The presets have the values of the authors' scripts.
    """

    p: float = option(0.9, "share of the weights to drop", low=0, high=1)

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "cifar10": {"p": 0.9},
        "cifar100": {"p": 0.9},
        "imagenet": {"p": 0.7},
    }

    def fit_state(self, train: SelectedRows) -> State:
        """Mask the weights; the state contains the sparse weights."""
        layer = super().fit_state(train)
        weight = layer["weight"]
        total, rows = weight.new_zeros(weight.shape[1]).double(), 0
        for block in train.blocks():
            total += self.vectors(block).double().sum(0)
            rows += len(block)
        contribution: Tensor = (weight * (total / max(rows, 1))).float()
        (threshold,) = quantiles(lambda: [contribution], [self.p])
        return {**layer, "weight": weight.masked_fill(contribution <= threshold, 0)}
