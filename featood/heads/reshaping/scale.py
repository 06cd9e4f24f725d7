"""Features scaled by how little of their sum is in the largest of them."""

from __future__ import annotations

__all__ = ["SCALE"]

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from featood.heads.base.declaration import option
from featood.heads.base.fit import State
from featood.heads.registry import register
from featood.heads.reshaping._reshaping_head import ReshapingHead, activation_ratio, kept_count


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
    """Score the logits of ``z exp(r)``, r being the sum of the activations over that of the largest of them.

    Unlike ASH-S it prunes nothing. Activations are what a ReLU lets through: theirs are signed sums, which differ
    for features that no ReLU made. The default share is that of the authors' code; the presets have that of their
    configuration for ImageNet, and for small images the highest of those they search, 0.65 to 0.95.
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
