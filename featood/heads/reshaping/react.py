"""Rectified activations: features clipped from above."""

from __future__ import annotations

__all__ = ["ReAct"]

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.heads.base.fit import State
from featood.heads.base.rows import SelectedRows
from featood.heads.registry import register
from featood.heads.reshaping._reshaping_head import ReshapingHead
from featood.heads.reshaping.dice import sparse_weight
from featood.numerics.moments import ClassSums
from featood.numerics.quantiles import quantiles
from featood.options import option


@register(
    "react",
    title="Rectified activations (ReAct)",
    paper="Sun et al., ReAct: Out-of-distribution Detection With Rectified Activations, NeurIPS",
    year=2021,
    url="https://arxiv.org/abs/2111.12797",
    needs=("features", "classifier"),
)
class ReAct(ReshapingHead):
    """Score the logits of ``min(z, t)``, t being a quantile of all training activations.

    The paper uses the quantile 0.9, the authors' code the threshold 1.0, which is about the same on ResNet-50 for
    ImageNet. On small networks this clips too much: the presets for small images have the highest of the
    quantiles in OpenOOD's search, 0.85 to 0.99. OpenOOD computes the quantiles on validation rows.

    With `sparsity` above 0, weights of the classifier are set to zero as by `dice`, whose paper combines both methods;
    its authors' script has 0.1 with the threshold 1.0 for ResNet-50 on ImageNet. As in their code, the contributions
    are those of activations that are not clipped.
    """

    percentile: float = option(0.9, "quantile t of the training activations", low=0, high=1)
    sparsity: float = option(0.0, "share of the weights to drop, as dice does", low=0, high=1)

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "cifar10": {"percentile": 0.99},
        "cifar100": {"percentile": 0.99},
        "imagenet": {"percentile": 0.9},
    }

    def fit_state(self, train: SelectedRows) -> State:
        """Find the quantile, and drop weights."""
        (limit,) = quantiles(lambda: map(self.vectors, train.blocks()), [self.percentile])
        state = {"limit": torch.tensor(limit), **super().fit_state(train)}
        if self.sparsity:
            mean = train.sum(self.accumulate).mean()
            state["weight"] = sparse_weight(state["weight"], mean, self.sparsity)
        return state

    def accumulate(self, statistics: ClassSums | None, block: FeatureSet) -> ClassSums:
        """Add a block's rows to the sum whose mean ranks the weights."""
        return ClassSums.of(self.vectors(block), None, statistics)

    def reshape(self, features: Tensor, fitted: State) -> Tensor:
        """Clip at the quantile."""
        return features.clamp(max=float(fitted["limit"]))
