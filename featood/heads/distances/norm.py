"""Length of the feature vector."""

from __future__ import annotations

__all__ = ["Norm"]

from typing import Any

from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.heads.base.feature_head import FeatureHead
from featood.heads.registry import register


@register(
    "norm",
    title="Feature norm",
    paper="Dhamija et al., Reducing Network Agnostophobia, NeurIPS",
    year=2018,
    url="https://arxiv.org/abs/1811.04110",
    needs=("features",),
    learns=False,
)
class Norm(FeatureHead):
    """Score ``-|z|``: features of unknown inputs tend to have a small norm. Higher means more OOD."""

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Return the negated Euclidean length ``[B]``."""
        return -self.vectors(block).double().norm(dim=1)
