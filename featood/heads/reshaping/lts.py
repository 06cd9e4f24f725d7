"""Logits scaled by how little of the feature's sum is in its largest activations."""

from __future__ import annotations

__all__ = ["LTS"]

from torch import Tensor

from featood.heads.base.declaration import option
from featood.heads.base.fit import State
from featood.heads.registry import register
from featood.heads.reshaping._reshaping_head import ReshapingHead, activation_ratio, kept_count


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
    """Score the logits times ``r^2``, r being the sum of the activations over that of the largest of them.

    The share is the authors' for every network.

    A constant on all logits, which the softmax does not tell, changes the score, and turns it around where it makes the
    logits negative; nothing is learnt here that could tell.
    """

    top: float = option(0.05, "share of each row's activations that count as the largest", low=0, high=1)

    def logits(self, features: Tensor, fitted: State) -> Tensor:
        """Scale the logits."""
        ratio = activation_ratio(features, kept_count(features.shape[1], 1 - self.top))
        return super().logits(features, fitted) * ratio.square()
