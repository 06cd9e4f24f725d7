"""Base of heads on several predictions per row: a column of their logits, and a choice of uncertainty."""

from __future__ import annotations

__all__ = ["DrawsHead"]

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.errors import UsageError
from featood.heads.base.feature_head import FeatureHead, RawFeatures
from featood.numerics.mixtures import (
    mean_log_probabilities,
    mutual_information,
    predictive_entropy,
    probability_variance,
)
from featood.options import option

MEASURES: Mapping[str, Callable[[Sequence[Tensor]], Tensor]] = {
    "predictive-entropy": predictive_entropy,
    "mutual-information": mutual_information,
    "variance": probability_variance,
    "mean-msp": lambda draws: -mean_log_probabilities(draws).exp().amax(1),
}


@dataclasses.dataclass(kw_only=True, eq=False)
class DrawsHead(RawFeatures, FeatureHead):
    """Base of the heads that read a column ``[N, S * C]``: the concatenated logits of S predictions.

    The number of classes C is that of the set's logits. Higher scores mean more out-of-distribution.
    """

    which: str = option(
        "predictive-entropy",
        "entropy of the mean probabilities, its epistemic part, variance, or the negated largest mean probability",
        choices=tuple(MEASURES),
    )

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Return the chosen uncertainty ``[B]``."""
        return MEASURES[self.which](self.draws(block))

    def classify_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Return the logarithm of the mean probabilities ``[B, C]``."""
        return mean_log_probabilities(self.draws(block))

    def draws(self, block: FeatureSet) -> Sequence[Tensor]:
        """Return the logits ``[B, C]`` of each prediction."""
        assert block.logits is not None
        rows, classes = block.feature(self.feature)[:], block.logits.shape[1]
        if rows.shape[1] % classes or rows.shape[1] < 2 * classes:
            raise UsageError(
                f"{self.name}: column '{self.feature}' has {rows.shape[1]} numbers per row, which are not the logits "
                f"of two or more predictions of {classes} classes"
            )
        return rows.split(classes, dim=1)
