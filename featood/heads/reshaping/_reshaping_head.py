"""Base class of reshaping heads: a reshaped feature, the classifier's logits of it, and a score of the logits."""

from __future__ import annotations

__all__ = ["ReshapingHead", "activation_ratio", "kept_count", "top_mask"]

import dataclasses
from typing import Any

import torch
from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.errors import UsageError
from featood.heads.base.feature_head import FeatureHead, RawFeatures
from featood.heads.base.fit import State
from featood.heads.base.last_layer import classifier_state, last_layer, linear_logits
from featood.heads.base.logit_head import LogitHead
from featood.heads.base.rows import SelectedRows
from featood.heads.registry import create_head, head_class
from featood.numerics.selection import largest
from featood.options import option


@dataclasses.dataclass(kw_only=True, eq=False)
class ReshapingHead(RawFeatures, FeatureHead):
    """Base of the heads that score ``then(W z' + b)``, z' being the reshaped feature.

    A subclass overrides `reshape`, or `logits` if it does not modify the feature, and `fit_state` if it has to be
    fitted. A head without fit takes the classifier from the scored set. The logit head `then` orients the scores:
    higher means more out-of-distribution.
    """

    then: str = option("energy", "logit head that scores the reshaped logits, with its default options")

    def __post_init__(self) -> None:
        super().__post_init__()
        scorer = head_class(self.then)
        if not issubclass(scorer, LogitHead) or scorer.card.learns:
            raise UsageError(f"{self.name}: --then takes a logit head that needs no fit, not '{self.then}'")

    def reshape(self, features: Tensor, fitted: State) -> Tensor:
        """Reshape features ``[B, D]``."""
        return features

    def logits(self, features: Tensor, fitted: State) -> Tensor:
        """Return the logits ``[B, C]`` of features ``[B, D]``."""
        return linear_logits(self.reshape(features, fitted), fitted)

    def fit_state(self, train: SelectedRows) -> State:
        """Keep the classifier."""
        return classifier_state(train, self.feature)

    def prepare(self, state: State) -> Any:
        """Pair the tensors with the head that scores the logits."""
        return state, create_head(self.then)

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Score the logits of the reshaped features ``[B]``."""
        state, scorer = fitted
        features = self.vectors(block)
        if "weight" not in state:
            state = {**state, **last_layer(block, self.feature, features.device)}
        return scorer.score_logits(self.logits(features, state), {})


def kept_count(size: int, pruned: float) -> int:
    """Return the number of activations out of `size` that remain after pruning a share of them; at least one."""
    return max(size - round(size * pruned), 1)


def top_mask(features: Tensor, count: int) -> Tensor:
    """Mask ``[B, D]`` of each row's `count` largest entries; among ties the first."""
    if torch.compiler.is_compiling():
        return _first_of_ties(features, count)
    mask = features >= largest(features, count).amin(1, keepdim=True)
    tied = mask.sum(1) > count
    if bool(tied.any()):
        mask[tied] = _first_of_ties(features[tied], count)
    return mask


def _first_of_ties(features: Tensor, count: int) -> Tensor:
    order = features.argsort(dim=1, descending=True, stable=True)  # takes five times as long as topk
    return torch.zeros_like(features, dtype=torch.bool).scatter_(1, order[:, :count], True)


def activation_ratio(features: Tensor, count: int) -> Tensor:
    """Sum of each row's activations over that of its `count` largest ``[B, 1]``, at least 1.

    Only positive entries count as activations; a row without any has the ratio 1.
    """
    active = features.relu()
    top = largest(active, count).sum(1, keepdim=True)
    return torch.where(
        top > 0, active.sum(1, keepdim=True) / top.masked_fill(top == 0, 1), torch.ones_like(top)
    )
