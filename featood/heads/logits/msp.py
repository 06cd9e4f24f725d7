"""Maximum softmax probability."""

from __future__ import annotations

__all__ = ["MSP"]

from typing import Any

from torch import Tensor

from featood.heads.base.logit_head import LogitHead
from featood.heads.registry import register
from featood.numerics.softmax import largest_probability
from featood.options import option


@register(
    "msp",
    title="Maximum softmax probability",
    paper="Hendrycks and Gimpel, A Baseline for Detecting Misclassified and Out-of-Distribution Examples, ICLR",
    year=2017,
    url="https://arxiv.org/abs/1610.02136",
    needs=("logits",),
    learns=False,
)
class MSP(LogitHead):
    """Score ``-max softmax(logits / T)``."""

    temperature: float = option(1.0, "softmax temperature T", low=1e-6)

    def score_logits(self, logits: Tensor, fitted: Any) -> Tensor:
        """Return the negated largest probability ``[B]``."""
        return -largest_probability(logits, self.temperature)
