"""Odds that the prediction is wrong, from the softmax alone."""

from __future__ import annotations

__all__ = ["Doctor"]

from typing import Any

from torch import Tensor

from featood.heads.base.logit_head import LogitHead
from featood.heads.registry import register
from featood.numerics.softmax import log_odds
from featood.options import option


@register(
    "doctor",
    title="DOCTOR",
    paper="Granese et al., DOCTOR: A Simple Method for Detecting Misclassification Errors, NeurIPS",
    year=2021,
    url="https://arxiv.org/abs/2106.02395",
    needs=("logits",),
    learns=False,
)
class Doctor(LogitHead):
    """Score the odds ``e / (1 - e)`` of an error e of the prediction.

    With ``odds=alpha``, e is the probability ``1 - sum_c p_c^2`` that two draws from the softmax differ; with
    ``odds=beta`` it is ``1 - max_c p_c``.
    """

    odds: str = option("alpha", "estimate of the error", choices=("alpha", "beta"))
    temperature: float = option(1.0, "softmax temperature", low=1e-6)

    def score_logits(self, logits: Tensor, fitted: Any) -> Tensor:
        """Return the odds ``[B]``."""
        rest = log_odds(logits, self.temperature).exp()
        if self.odds == "beta":
            return rest
        # relative to the largest probability, the others sum to `rest`, and their squares to `squares`
        squares = log_odds(logits, self.temperature / 2).exp()
        return (rest * (2 + rest) - squares) / (1 + squares)
