"""Gradient norm of the cross-entropy to the uniform distribution, in closed form for the last layer."""

from __future__ import annotations

__all__ = ["GradNorm"]

from typing import Any

from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.heads.base.feature_head import FeatureHead
from featood.heads.registry import register
from featood.options import option


@register(
    "gradnorm",
    title="GradNorm",
    paper="Huang et al., On the Importance of Gradients for Detecting Distributional Shifts in the Wild, NeurIPS",
    year=2021,
    url="https://arxiv.org/abs/2110.00218",
    needs=("features", "logits"),
    learns=False,
)
class GradNorm(FeatureHead):
    """Score ``-|dL/dW|_1`` of the last layer's weight W, L being the cross-entropy to the uniform distribution.

    The gradient is the outer product of ``(p - 1/K) / T`` and z, so its norm is the product of their norms and needs
    no backward pass. The authors' code sums the cross-entropy over the classes, which multiplies all scores by K.

    In-distribution rows have large gradient norms; higher scores mean more out-of-distribution.
    """

    temperature: float = option(1.0, "softmax temperature T", low=1e-6)

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Return the negated norm of the gradient ``[B]``."""
        assert block.logits is not None
        logits = block.logits[:].double() / self.temperature
        residual = logits.softmax(1) - 1 / logits.shape[1]
        features = self.vectors(block).double()
        return -residual.abs().sum(1) * features.abs().sum(1) / self.temperature
