"""Directed sparsification: the classifier with only its most contributing weights."""

from __future__ import annotations

__all__ = ["DICE", "sparse_weight"]

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.heads.base.fit import State
from featood.heads.base.last_layer import classifier_state
from featood.heads.base.rows import SelectedRows
from featood.heads.base.summed_head import SummedHead
from featood.heads.registry import register
from featood.heads.reshaping._reshaping_head import ReshapingHead
from featood.numerics.moments import ClassSums
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
class DICE(SummedHead, ReshapingHead):
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

    def accumulate(self, statistics: ClassSums | None, block: FeatureSet) -> ClassSums:
        """Add a block's rows to the sum."""
        return ClassSums.of(self.vectors(block), None, statistics)

    def finish(self, statistics: ClassSums, train: SelectedRows) -> State:
        """Mask the weights; the state contains the sparse weights."""
        layer = classifier_state(train, self.feature)
        return {**layer, "weight": sparse_weight(layer["weight"], statistics.mean(), self.p)}


def sparse_weight(weight: Tensor, mean: Tensor, share: float) -> Tensor:
    """Set the share of the weights ``[C, D]`` that adds least to the logits of the mean feature ``[D]`` to zero."""
    contribution = (weight * mean).float()
    (threshold,) = quantiles(lambda: [contribution], [share])
    return weight.masked_fill(contribution <= threshold, 0)
