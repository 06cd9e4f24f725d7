"""Alignment of the feature with the weights of the predicted class, motivated by neural collapse."""

from __future__ import annotations

__all__ = ["NCI"]

from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.heads.base.fit import State
from featood.heads.base.last_layer import linear_logits
from featood.heads.distances._mean_head import MeanHead
from featood.heads.registry import register
from featood.numerics.spaces import unit
from featood.options import option


@register(
    "nci",
    title="Neural collapse inspired detector (NCI)",
    paper="Liu and Qin, Detecting Out-of-Distribution through the Lens of Neural Collapse, CVPR",
    year=2025,
    url="https://arxiv.org/abs/2311.01479",
    needs=("features", "classifier"),
)
class NCI(MeanHead):
    """Score ``-<z - mu, w_y> / |z - mu| - a |z|_1`` with the weights w_y of the predicted class.

    mu is the mean of the training features. The weight a of the second term has to be tuned on outliers; the default
    without tuning is 0, while OpenOOD starts from 1e-4 and searches up to 0.1. Higher means more out-of-distribution.
    """

    alpha: float = option(0.0, "weight a of the feature's 1-norm (the paper tunes it)", low=0)

    def score_block(self, block: FeatureSet, fitted: State) -> Tensor:
        """Return the negated alignment and norm ``[B]``."""
        rows = self.vectors(block).double()
        weight = fitted["weight"].double()[linear_logits(rows, fitted).argmax(1)]
        alignment = (unit(rows - fitted["mean"]) * weight).sum(1)
        return -alignment - self.alpha * rows.abs().sum(1)
