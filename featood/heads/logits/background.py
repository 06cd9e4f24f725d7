"""Log-odds of a class for outliers."""

from __future__ import annotations

__all__ = ["Background"]

from typing import Any

from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.heads.base.feature_head import FeatureHead, RawFeatures
from featood.heads.registry import register
from featood.options import option


@register(
    "background",
    title="Background class",
    paper="Dhamija et al., Reducing Network Agnostophobia, NeurIPS",
    year=2018,
    url="https://arxiv.org/abs/1811.04110",
    needs=("features", "logits"),
    learns=False,
)
class Background(RawFeatures, FeatureHead):
    """Score ``b - log sum_c exp(l_c)``, the log-odds of an additional class for outliers with the logit b.

    The network has to be trained with that class (``featood train background-class``).
    """

    feature: str = option("background.avg", "column with the logit of the additional class")

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Return the log-odds ``[B]``."""
        assert block.logits is not None
        return self.vectors(block).double()[:, 0] - block.logits[:].double().logsumexp(1)
