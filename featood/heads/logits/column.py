"""A column of scores that a network computed itself."""

from __future__ import annotations

__all__ = ["ColumnScore"]

from typing import Any

from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.heads.base.feature_head import FeatureHead, RawFeatures
from featood.heads.registry import register
from featood.options import option


@register(
    "column",
    title="Score of the network",
    paper="DeVries and Taylor, Learning Confidence for Out-of-Distribution Detection in Neural Networks",
    year=2018,
    url="https://arxiv.org/abs/1802.04865",
    needs=("features",),
    learns=False,
)
class ColumnScore(RawFeatures, FeatureHead):
    """Score a column with a single number for each row, such as an output of a network trained by ``featood train``.

    The models of ``featood train`` that have a score of their own name the column, and whether it has to be negated.
    """

    feature: str = option("score.avg", "column with the scores")
    negate: bool = option(False, "negate the column, for confidences that are low for outliers")

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Return the column ``[B]``."""
        values = self.numbers(block, self.feature)
        return -values if self.negate else values
