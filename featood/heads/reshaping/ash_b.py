"""Activation shaping by pruning and binarising the remaining activations."""

from __future__ import annotations

__all__ = ["ASHB"]

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from featood.heads.base.fit import State
from featood.heads.registry import register
from featood.heads.reshaping._reshaping_head import ReshapingHead, kept_count, top_mask
from featood.options import option


@register(
    "ash-b",
    title="Activation shaping, binary (ASH-B)",
    paper="Djurisic et al., Extremely Simple Activation Shaping for Out-of-Distribution Detection, ICLR",
    year=2023,
    url="https://arxiv.org/abs/2209.09858",
    needs=("features", "classifier"),
    learns=False,
)
class ASHB(ReshapingHead):
    """Score the logits of z with each row's k largest activations set to ``sum(z) / k`` and the rest to zero.

    The default share is that of the authors' code. Their configurations state a share for ASH-S only; the presets for
    small images use the one for CIFAR-100 and a DenseNet. Among ties the first activations are kept, whereas the choice
    of the authors' code is arbitrary; this matters for rows with fewer than k positive activations, where that code
    raises arbitrary zeros.
    """

    percentile: float = option(0.65, "share of each row's activations to prune", low=0, high=1)

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "cifar10": {"percentile": 0.95},
        "cifar100": {"percentile": 0.95},
    }

    def reshape(self, features: Tensor, fitted: State) -> Tensor:
        """Prune, and distribute the sum over the remaining activations."""
        count = kept_count(features.shape[1], self.percentile)
        return features.sum(1, keepdim=True) / count * top_mask(features, count)
