"""Entropy of the softmax."""

from __future__ import annotations

__all__ = ["Entropy"]

import math
from typing import Any

from torch import Tensor

from featood.heads.base.logit_head import LogitHead
from featood.heads.registry import register
from featood.numerics.softmax import exponentials


@register(
    "entropy",
    title="Softmax entropy",
    paper="Chan et al., Entropy Maximization and Meta Classification for Out-of-Distribution Detection, ICCV",
    year=2021,
    url="https://arxiv.org/abs/2012.06575",
    needs=("logits",),
    learns=False,
)
class Entropy(LogitHead):
    """Score ``-sum_c p_c log p_c`` in nats, with p the softmax."""

    def score_logits(self, logits: Tensor, fitted: Any) -> Tensor:
        """Return the entropy ``[B]``."""
        exponents, terms, total = exponentials(logits)
        weighted = terms.mul_(exponents).sum(1)
        return total.log() - math.log(2) * weighted.double() / total
