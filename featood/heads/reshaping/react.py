"""Rectified activations: features clipped from above."""

from __future__ import annotations

__all__ = ["ReAct"]

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from featood.heads.base.fit import State
from featood.heads.base.rows import SelectedRows
from featood.heads.registry import register
from featood.heads.reshaping._reshaping_head import ReshapingHead
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
    """

    percentile: float = option(0.9, "quantile t of the training activations", low=0, high=1)

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "cifar10": {"percentile": 0.99},
        "cifar100": {"percentile": 0.99},
        "imagenet": {"percentile": 0.9},
    }

    def fit_state(self, train: SelectedRows) -> State:
        """Find the quantile."""
        (limit,) = quantiles(lambda: map(self.vectors, train.blocks()), [self.percentile])
        return {"limit": torch.tensor(limit), **super().fit_state(train)}

    def reshape(self, features: Tensor, fitted: State) -> Tensor:
        """Clip at the quantile."""
        return features.clamp(max=float(fitted["limit"]))
