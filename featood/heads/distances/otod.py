"""Wasserstein distances of features, logits and probabilities from constant vectors."""

from __future__ import annotations

__all__ = ["OTOD", "distance_from_constants"]

from typing import Any

import torch
from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.heads.base.feature_head import FeatureHead
from featood.heads.registry import register
from featood.numerics.spaces import unit
from featood.options import option


@register(
    "otod",
    title="Optimal transport score (OTOD)",
    paper="Gao et al., Detecting OOD Samples via Optimal Transport Scoring Function, ICASSP",
    year=2025,
    url="https://arxiv.org/abs/2502.16115",
    needs=("features", "logits"),
    learns=False,
)
class OTOD(FeatureHead):
    """Score the mean of ``min(W(v, 0), W(v, 1/n))`` over v: features, logits and ``softmax(logits / T)``.

    Each v is scaled to unit length and has n entries, and W is the Wasserstein-1 distance between its entries and a
    constant, i.e. the mean of ``|v_j - c|``. Entries of equal magnitude have a large distance. Higher means more
    out-of-distribution.
    """

    temperature: float = option(3.0, "softmax temperature T", low=1e-6)

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Return the mean distance ``[B]``."""
        assert block.logits is not None
        logits = block.logits[:].double()
        vectors = self.vectors(block).double(), logits, (logits / self.temperature).softmax(1)
        return torch.stack([distance_from_constants(unit(rows)) for rows in vectors]).mean(0)


def distance_from_constants(rows: Tensor) -> Tensor:
    """Return the smaller Wasserstein-1 distance ``[B]`` of the entries of rows ``[B, D]`` from 0 and from 1/D."""
    return torch.minimum(rows.abs().mean(1), (rows - 1 / rows.shape[1]).abs().mean(1))
