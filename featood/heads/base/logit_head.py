"""Heads that score logits."""

from __future__ import annotations

__all__ = ["LogitHead"]

import dataclasses
from typing import Any

from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.heads.base.head import Head


@dataclasses.dataclass(kw_only=True, eq=False)
class LogitHead(Head):
    """A head that scores logits alone."""

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Score a block by its logits, in float64."""
        assert block.logits is not None
        return self.score_logits(block.logits[:].double(), fitted)

    def score_logits(self, logits: Tensor, fitted: Any) -> Tensor:
        """Score logits ``[B, C]`` in float64 to ``[B]``."""
        raise NotImplementedError
