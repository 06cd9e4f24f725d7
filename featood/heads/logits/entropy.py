"""Entropy of the softmax."""

from __future__ import annotations

__all__ = ["Entropy"]

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
        shifted, terms, total = exponentials(logits)
        # terms below exp(-1000) are 0, but 0 times an infinite difference of large logits is not
        return total.log() - (terms * shifted.clamp_(min=-1000)).sum(1).double() / total
