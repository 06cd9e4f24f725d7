"""Generalised entropy."""

from __future__ import annotations

__all__ = ["GEN"]

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from featood.heads.base.logit_head import LogitHead
from featood.heads.registry import register
from featood.numerics.selection import largest
from featood.numerics.softmax import log_odds
from featood.options import option


@register(
    "gen",
    title="Generalised entropy",
    paper="Liu et al., GEN: Pushing the Limits of Softmax-Based Out-of-Distribution Detection, CVPR",
    year=2023,
    url="https://openaccess.thecvf.com/content/CVPR2023/html/Liu_GEN_Pushing_the_Limits_of_Softmax-Based_Out-of-Distribution_Detection_CVPR_2023_paper.html",
    needs=("logits",),
    learns=False,
)
class GEN(LogitHead):
    """Score ``sum_c p_c^g (1 - p_c)^g`` over the largest softmax probabilities.

    The sum runs over the 100 largest probabilities, the authors' value for ImageNet, or over all if there are fewer.
    ``1 - p`` of the largest is computed as the sum of the others. The authors and OpenOOD subtract in float32, which
    loses this term when the largest logit leads by more than 17; pytorch-ood clamps p to at least 1e-7, so all more
    confident rows get the same score.
    """

    gamma: float = option(0.1, "exponent g", low=1e-6, high=1)
    top: int = option(100, "sum over this many of the largest probabilities; 0 for all", low=0)

    def score_logits(self, logits: Tensor, fitted: Any) -> Tensor:
        """Return the generalised entropy ``[B]``."""
        count = min(self.top or logits.shape[1], logits.shape[1])
        top = largest(logits, count)
        first, place = top.max(1, keepdim=True)
        odds = log_odds(logits, two=top.topk(2, dim=1).values if count > 1 else None)[:, None].to(top.dtype)
        log_p = top - first + logsigmoid(-odds)
        log_complement = torch.log1p(-log_p.exp()).scatter_(1, place, logsigmoid(odds))
        return log_p.add_(log_complement).mul_(self.gamma).exp_().sum(1)
