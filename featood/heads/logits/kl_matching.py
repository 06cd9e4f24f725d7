"""Divergence from the typical softmax of a class."""

from __future__ import annotations

__all__ = ["KLMatching"]

from typing import Any

import torch
from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.heads.base.fit import State
from featood.heads.base.logit_head import LogitHead
from featood.heads.base.rows import SelectedRows
from featood.heads.base.summed_head import SummedHead
from featood.heads.registry import register
from featood.numerics.moments import ClassSums


@register(
    "kl-matching",
    title="KL matching",
    paper="Hendrycks et al., Scaling Out-of-Distribution Detection for Real-World Settings, ICML",
    year=2022,
    url="https://arxiv.org/abs/1911.11132",
    needs=("logits",),
)
class KLMatching(SummedHead, LogitHead):
    """Score ``min_c KL(p || d_c)``, where d_c is the mean softmax of the rows predicted as class c.

    Classes that are never predicted have no template d_c. Probabilities that underflow in a template are set to the
    smallest positive number. The paper computes the templates on held-out rows. For a class that is never predicted,
    OpenOOD uses a one-hot template, which is the nearest one for almost no row.
    """

    def accumulate(self, statistics: ClassSums | None, block: FeatureSet) -> ClassSums:
        """Add the softmax of a block to the sums by predicted class."""
        assert block.logits is not None
        p = block.logits[:].double().softmax(1)
        # a shift would swamp the smallest probabilities
        return ClassSums.of(p, p.argmax(1), statistics or ClassSums.empty(p.new_zeros(p.shape[1])))

    def finish(self, statistics: ClassSums, train: SelectedRows) -> State:
        """Keep the logarithms of the means ``[K, C]``."""
        return {"log_templates": statistics.means().clamp_(min=torch.finfo(torch.float64).tiny).log_()}

    def score_logits(self, logits: Tensor, fitted: Any) -> Tensor:
        """Return the divergence from the nearest template ``[B]``."""
        log_p = logits.double().log_softmax(1)
        p = log_p.exp()
        return (p * log_p).sum(1) - (p @ fitted["log_templates"].T).amax(1)
