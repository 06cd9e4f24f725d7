"""Squared gradient norm of the loss against an all-ones label, in closed form for the last layer."""

from __future__ import annotations

__all__ = ["GradientUncertainty"]

from typing import Any

from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.heads.base.feature_head import FeatureHead
from featood.heads.registry import register


@register(
    "gradient-uncertainty",
    title="Gradients as a measure of uncertainty",
    paper="Lee and AlRegib, Gradients as a Measure of Uncertainty in Neural Networks, ICIP",
    year=2020,
    url="https://arxiv.org/abs/2008.08030",
    needs=("features", "logits"),
    learns=False,
)
class GradientUncertainty(FeatureHead):
    """Score ``-|dL/d(W, b)|^2`` of the last layer, L being the binary cross-entropy of softmax to all ones.

    With ``dL/dlogits = K p - 1`` this is ``-|K p - 1|^2 (|z|^2 + 1)``. The paper trains a classifier on these
    norms of all layers, using outliers; the norm of the last layer alone is large where the network is confident,
    hence the negative sign.

    PyTorch's binary cross-entropy clamps ``p (1 - p)`` at 1e-12, which matters for classes with a smaller probability;
    this head does not clamp. Higher means more out-of-distribution.
    """

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Return the negated squared norm of the gradient ``[B]``."""
        assert block.logits is not None
        logits = block.logits[:].double()
        residual = logits.shape[1] * logits.softmax(1) - 1
        features = self.vectors(block).double()
        return -residual.square().sum(1) * (features.square().sum(1) + 1)
