"""Features scaled by the ratio of all activations to the largest ones."""

from __future__ import annotations

__all__ = ["SCALE"]

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from featood.heads.base.fit import State
from featood.heads.registry import register
from featood.heads.reshaping._reshaping_head import ReshapingHead, activation_ratio, kept_count
from featood.options import option


@register(
    "scale",
    title="Activation scaling (SCALE)",
    paper="Xu et al., Scaling for Training Time and Post-hoc Out-of-distribution Detection Enhancement, ICLR",
    year=2024,
    url="https://arxiv.org/abs/2310.00227",
    needs=("features", "classifier"),
    learns=False,
)
class SCALE(ReshapingHead):
    """Score the logits of ``z exp(r)``, r being the ratio of the sum of all activations to the sum of the largest.

    Unlike ASH-S it prunes nothing. Only positive entries count as activations; the authors use signed sums, which
    differ for features without a ReLU. The default share is that of the authors' code; the presets have the value of
    the authors' configuration for ImageNet, and for small images the highest value of their search, 0.65 to 0.95.
    """

    percentile: float = option(
        0.65, "share of each row's activations not among the largest", low=0, high=0.99
    )

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "cifar10": {"percentile": 0.95},
        "cifar100": {"percentile": 0.95},
        "imagenet": {"percentile": 0.85},
    }

    def reshape(self, features: Tensor, fitted: State) -> Tensor:
        """Scale."""
        return features * activation_ratio(features, kept_count(features.shape[1], self.percentile)).exp()
