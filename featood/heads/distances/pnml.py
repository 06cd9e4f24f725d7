"""Regret of the predictive normalised maximum likelihood learner of the last layer."""

from __future__ import annotations

__all__ = ["PNML"]

import math
from typing import Any

import torch
from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.heads.base.feature_head import RawFeatures, StreamingHead
from featood.heads.base.fit import State
from featood.heads.base.last_layer import classifier_state, linear_logits
from featood.heads.base.rows import SelectedRows
from featood.heads.registry import register
from featood.numerics.moments import ClassMoments
from featood.numerics.spaces import unit


@register(
    "pnml",
    title="Predictive normalised maximum likelihood (pNML)",
    paper="Bibas et al., Single Layer Predictive Normalized Maximum Likelihood for Out-of-Distribution Detection, "
    "NeurIPS",
    year=2021,
    url="https://arxiv.org/abs/2110.09246",
    needs=("features", "classifier"),
)
class PNML(RawFeatures, StreamingHead):
    """Score the regret ``log sum_c p_c / (p_c + (1 - p_c) p_c^g) / log K`` with ``g = q / (1 + q)``, ``q = u' P u``.

    u is the feature scaled to unit length, p the softmax of the classifier's logits of u, and P the
    pseudo-inverse of the sum of u u' over the training rows. Directions orthogonal to all training rows therefore
    contribute nothing, as in the authors' code. Higher means more out-of-distribution.
    """

    def accumulate(self, statistics: ClassMoments | None, block: FeatureSet) -> ClassMoments:
        """Add a block's rows to the moments, whose scatter around zero is the Gram matrix."""
        rows = unit(self.vectors(block).double())
        return ClassMoments.of(rows, None, statistics or ClassMoments.empty(rows.new_zeros(rows.shape[1])))

    def finish(self, statistics: ClassMoments, train: SelectedRows) -> State:
        """Invert the Gram matrix ``[D, D]``."""
        inverse = torch.linalg.pinv(statistics.scatter, rtol=1e-12, hermitian=True)
        return {"inverse": inverse, **classifier_state(train, self.feature)}

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Return the regret ``[B]``, in [0, 1]."""
        rows = unit(self.vectors(block).double())
        support = ((rows @ fitted["inverse"]) * rows).sum(1, keepdim=True).clamp(min=0)
        log_p = linear_logits(rows, fitted).log_softmax(1)
        log_rest = torch.log(-torch.expm1(log_p.clamp(max=-1e-300)))
        genie = torch.logaddexp(log_p, log_rest + log_p * support / (1 + support))
        return (log_p - genie).logsumexp(1).clamp(min=0) / math.log(max(log_p.shape[1], 2))
