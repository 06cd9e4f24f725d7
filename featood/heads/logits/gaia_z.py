"""GAIA-Z: how few gradients at normalisation layers are zero."""

from __future__ import annotations

__all__ = ["GAIAZ"]

from typing import Any

from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.heads.base.feature_head import FeatureHead, RawFeatures
from featood.heads.registry import register
from featood.options import option


@register(
    "gaia-z",
    title="Zero-deflation abnormality (GAIA-Z)",
    paper="Chen et al., GAIA: Delving into Gradient-based Attribution Abnormality for OOD Detection, NeurIPS",
    year=2023,
    url="https://arxiv.org/abs/2311.09620",
    needs=("features",),
    learns=False,
)
class GAIAZ(RawFeatures, FeatureHead):
    """Score the mean over channels of the squared share of positions at which a gradient is not zero.

    It is the gradient of the largest logit at the outputs of normalisation layers, computed at extraction
    (``featood extract --with gaia-z``): of all these layers, as the authors do for small images, or of those in the
    tapped stages. Higher means more out-of-distribution.
    """

    feature: str = option("gaia-z", "column with the scores")

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Return the column ``[B]``."""
        return self.numbers(block, self.feature)
