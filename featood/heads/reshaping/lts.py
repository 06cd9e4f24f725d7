"""Logits scaled by the ratio of all activations to the largest ones."""

from __future__ import annotations

__all__ = ["LTS"]

from torch import Tensor

from featood.heads.base.fit import State
from featood.heads.registry import register
from featood.heads.reshaping._reshaping_head import ReshapingHead, activation_ratio, kept_count
from featood.options import option


@register(
    "lts",
    title="Logit scaling (LTS)",
    paper="Djurisic et al., Logit Scaling for Out-of-Distribution Detection, Machine Vision and Applications",
    year=2025,
    url="https://arxiv.org/abs/2409.01175",
    needs=("features", "classifier"),
    learns=False,
)
class LTS(ReshapingHead):
    """Score the logits times ``r^2``, r being the ratio of the sum of all activations to the sum of the largest.

    The default share is the authors' value for every network.

    Adding a constant to all logits leaves the softmax unchanged but changes the score, and reverses it if the
    logits become negative; this cannot be detected, as the head has no fit.
    """

    top: float = option(0.05, "share of each row's activations that count as the largest", low=0, high=1)

    def logits(self, features: Tensor, fitted: State) -> Tensor:
        """Scale the logits."""
        ratio = activation_ratio(features, kept_count(features.shape[1], 1 - self.top))
        return super().logits(features, fitted) * ratio.square()
