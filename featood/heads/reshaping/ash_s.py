"""Activation shaping by pruning and scaling."""

from __future__ import annotations

__all__ = ["ASHS"]

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from featood.heads.base.fit import State
from featood.heads.registry import register
from featood.heads.reshaping._reshaping_head import ReshapingHead, activation_ratio, kept_count, top_mask
from featood.options import option


@register(
    "ash-s",
    title="Activation shaping, scaling (ASH-S)",
    paper="Djurisic et al., Extremely Simple Activation Shaping for Out-of-Distribution Detection, ICLR",
    year=2023,
    url="https://arxiv.org/abs/2209.09858",
    needs=("features", "classifier"),
    learns=False,
)
class ASHS(ReshapingHead):
    """Score the logits of z with all but each row's largest activations set to zero, times ``exp(r)``.

    r is the ratio of the sum of all activations to the sum of those kept. Only positive entries count as activations:
    a ratio of signed sums, which does not occur in the paper, would be meaningless. The default share is that of the
    authors' code; the presets have the values of the authors' configurations, ResNet-50 for ImageNet and DenseNet for
    CIFAR.
    """

    percentile: float = option(0.65, "share of each row's activations to prune", low=0, high=0.99)

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "cifar10": {"percentile": 0.95},
        "cifar100": {"percentile": 0.95},
        "imagenet": {"percentile": 0.9},
    }

    def reshape(self, features: Tensor, fitted: State) -> Tensor:
        """Prune and scale."""
        count = kept_count(features.shape[1], self.percentile)
        return features * top_mask(features, count) * activation_ratio(features, count).exp()
