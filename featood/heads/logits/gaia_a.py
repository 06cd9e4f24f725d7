"""GAIA-A: how large average gradients at normalisation layers are."""

from __future__ import annotations

__all__ = ["GAIAA"]

from typing import Any

from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.heads.base.feature_head import FeatureHead, RawFeatures
from featood.heads.registry import register
from featood.options import option


@register(
    "gaia-a",
    title="Channel-wise average abnormality (GAIA-A)",
    paper="Chen et al., GAIA: Delving into Gradient-based Attribution Abnormality for OOD Detection, NeurIPS",
    year=2023,
    url="https://arxiv.org/abs/2311.09620",
    needs=("features",),
    learns=False,
)
class GAIAA(RawFeatures, FeatureHead):
    """Score ``mean_i a_i^2 / mean_j |b_j|``, from gradients that are averaged over positions.

    a_i is the gradient of the sum of all features at channel i of the normalisation layers, and b_j that of the sum of
    all log-probabilities at feature j. They are computed at extraction (``featood extract --with gaia-a``), of all
    these layers or of those in the tapped stages: the authors use the last two stages of ResNet-34 and ResNet-50, and
    all layers of WRN-40-2. Higher means more out-of-distribution.
    """

    feature: str = option("gaia-a", "column with the scores")

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Return the column ``[B]``."""
        return self.numbers(block, self.feature)
