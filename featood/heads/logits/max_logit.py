"""Maximum logit."""

from __future__ import annotations

__all__ = ["MaxLogit"]

from typing import Any

from torch import Tensor

from featood.heads.base.logit_head import LogitHead
from featood.heads.registry import register


@register(
    "max-logit",
    title="Maximum logit",
    paper="Hendrycks et al., Scaling Out-of-Distribution Detection for Real-World Settings, ICML",
    year=2022,
    url="https://arxiv.org/abs/1911.11132",
    needs=("logits",),
    learns=False,
)
class MaxLogit(LogitHead):
    """Score ``-max logits``."""

    def score_logits(self, logits: Tensor, fitted: Any) -> Tensor:
        """Return the negated largest logit ``[B]``."""
        return -logits.amax(1)
