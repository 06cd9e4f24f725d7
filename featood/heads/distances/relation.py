"""Sum of the relations to the training rows: similar features with similar class probabilities."""

from __future__ import annotations

__all__ = ["Relation", "relations"]

from typing import Any

import torch
from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.heads.base.feature_head import FeatureHead
from featood.heads.base.fit import State
from featood.heads.base.rows import SelectedRows
from featood.heads.base.sampling import sampled_blocks, stacked
from featood.heads.registry import register
from featood.numerics.memory import by_chunks
from featood.numerics.spaces import unit
from featood.options import option

BANK_ROWS = 8192
"""Training rows that are compared at a time."""
QUERIES = 512
"""Rows to score at a time."""


@register(
    "relation",
    title="Relation graph",
    paper="Kim et al., Neural Relation Graph: A Unified Framework for Identifying Label Noise and Outlier Data, "
    "NeurIPS",
    year=2023,
    url="https://arxiv.org/abs/2301.12321",
    needs=("features", "logits"),
)
class Relation(FeatureHead):
    """Score ``-sum_i r_i^t`` over the training rows i with ``r_i > 0.03``.

    The relation r_i is ``max(cos(z, z_i), 0) <p, p_i>`` with the softmax probabilities p. The authors recommend t = 1
    for the detection of outliers; OpenOOD selects t from 1, 2, 4, 6 and 8 on validation outliers. Each row is compared
    with all training rows, which takes about as long as an exact search of `knn` without a screen; a share of the rows
    is often enough. Features and logits of the training rows are kept as they are stored. Higher means more
    out-of-distribution.
    """

    power: float = option(1.0, "exponent t of a relation", low=1e-6)
    threshold: float = option(0.03, "relations up to this value do not count", low=0, high=1)
    fraction: float = option(1.0, "share of the training rows to compare with", low=0, high=1)
    seed: int = option(0, "seed for sampling these rows", low=0, high=2**32 - 1)

    def fit_state(self, train: SelectedRows) -> State:
        """Keep features and logits of the training rows."""
        count = min(max(round(self.fraction * len(train.source)), 1), len(train.source))
        rows, logits = [], []
        for block in sampled_blocks(train, count, self.seed):
            assert block.logits is not None
            rows.append(block.feature(self.feature)[:])
            logits.append(block.logits[:])
        return {"rows": stacked(rows, count), "logits": stacked(logits, count)}

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Return the negated sum of relations ``[B]``."""
        assert block.logits is not None

        def score(rows: Tensor, logits: Tensor) -> Tensor:
            sums = torch.zeros_like(rows[:, 0], dtype=torch.float64)
            parts = (fitted[name].split(BANK_ROWS) for name in ("rows", "logits"))
            directions, p = unit(rows), logits.to(rows).softmax(1)
            for bank, others in zip(*parts, strict=True):
                found = relations(directions, unit(bank.to(rows)), p, others.to(rows).softmax(1))
                sums -= (found.pow(self.power) * (found > self.threshold)).sum(1, dtype=torch.float64)
            return sums

        return by_chunks(score, QUERIES, self.vectors(block), block.logits[:])


def relations(rows: Tensor, bank: Tensor, p: Tensor, q: Tensor) -> Tensor:
    """Return ``max(<z, z_i>, 0) <p, q_i>`` ``[B, N]`` of unit rows z ``[B, D]`` and z_i ``[N, D]``."""
    return (rows @ bank.T).clamp_(min=0).mul_(p @ q.T)
