"""Heads that score logits."""

from __future__ import annotations

__all__ = ["LogitHead"]

import dataclasses
from typing import Any

import torch
from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.heads.base.head import Head
from featood.numerics.memory import by_chunks

CACHED = 1 << 17
"""Number of logits that are processed at a time."""


@dataclasses.dataclass(kw_only=True, eq=False)
class LogitHead(Head):
    """A head that scores logits alone."""

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Score a block by its logits; temporaries of a few rows at a time stay in the processor's cache."""
        assert block.logits is not None
        logits = block.logits[:]
        logits = logits if logits.dtype == torch.float64 else logits.float()
        size = max(1, CACHED // logits.shape[1])
        return by_chunks(lambda rows: self.score_logits(rows, fitted), size, logits)

    def score_logits(self, logits: Tensor, fitted: Any) -> Tensor:
        """Score logits ``[B, C]`` in float32, or in float64 if they have that type, to ``[B]``."""
        raise NotImplementedError
