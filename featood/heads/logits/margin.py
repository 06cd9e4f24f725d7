"""Margin between the two most likely classes."""

from __future__ import annotations

__all__ = ["Margin"]

from typing import Any, ClassVar

import torch
from torch import Tensor

from featood.heads.base.logit_head import LogitHead
from featood.heads.registry import register
from featood.numerics.softmax import log_odds
from featood.options import option


@register(
    "margin",
    title="Margin of the two best classes",
    paper="Scheffer et al., Active Hidden Markov Models for Information Extraction, IDA",
    year=2001,
    url="https://doi.org/10.1007/3-540-44816-0_31",
    needs=("logits",),
    learns=False,
)
class Margin(LogitHead):
    """Score minus the difference between the largest and the second largest probability (or logit)."""

    least_classes: ClassVar[int] = 2
    of: str = option(
        "probabilities", "quantity to take the difference of", choices=("probabilities", "logits")
    )

    def score_logits(self, logits: Tensor, fitted: Any) -> Tensor:
        """Return the negated margin ``[B]``."""
        two = logits.topk(2, dim=1).values
        gap = two[:, 1].double() - two[:, 0].double()
        return gap if self.of == "logits" else gap.expm1() * torch.sigmoid(-log_odds(logits, two=two))
