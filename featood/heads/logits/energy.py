"""Free energy of the logits."""

from __future__ import annotations

__all__ = ["Energy"]

from typing import Any

from torch import Tensor

from featood.heads.base.logit_head import LogitHead
from featood.heads.registry import register
from featood.numerics.softmax import logsumexp
from featood.options import option


@register(
    "energy",
    title="Free energy",
    paper="Liu et al., Energy-based Out-of-distribution Detection, NeurIPS",
    year=2020,
    url="https://arxiv.org/abs/2010.03759",
    needs=("logits",),
    learns=False,
)
class Energy(LogitHead):
    """Score ``-T logsumexp(logits / T)``."""

    temperature: float = option(1.0, "temperature T", low=1e-6)

    def score_logits(self, logits: Tensor, fitted: Any) -> Tensor:
        """Return the free energy ``[B]``."""
        return -logsumexp(logits, self.temperature)
