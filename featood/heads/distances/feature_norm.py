"""Length of the channels of a feature map."""

from __future__ import annotations

__all__ = ["FeatureNorm"]

from typing import Any

from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.heads.base.feature_head import FeatureHead, RawFeatures
from featood.heads.registry import register
from featood.options import option


@register(
    "feature-norm",
    title="Norm of a feature map (FeatureNorm)",
    paper="Yu et al., Block Selection Method for Using Feature Norm in Out-of-Distribution Detection, CVPR",
    year=2023,
    url="https://arxiv.org/abs/2212.02295",
    needs=("features",),
    learns=False,
)
class FeatureNorm(RawFeatures, FeatureHead):
    """Score ``-mean_c |max(F_c, 0)|``, F_c being channel c of a map, with the Euclidean norm over its positions.

    The norms are a pooling of the extraction: ``featood extract --tap layer2,layer3 --pool avg,norm`` adds the columns
    ``norm`` of the last map, and ``layer2.norm`` and ``layer3.norm``. The authors choose the block by the ratio of the
    norms of training images and of the same images cut into pieces and shuffled, which is not implemented: name the
    block's column as `feature`. Higher means more out-of-distribution.
    """

    feature: str = option("norm", "column with the norms of the channels")

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Return the negated mean norm ``[B]``."""
        return -self.vectors(block).double().mean(1)
