"""Cosine similarity to the nearest class mean."""

from __future__ import annotations

__all__ = ["Cosine"]

from typing import Any

from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.heads.base.feature_head import StreamingHead
from featood.heads.base.fit import State
from featood.heads.base.rows import SelectedRows
from featood.heads.registry import register
from featood.numerics.moments import ScatterByClass
from featood.numerics.spaces import unit


@register(
    "cosine",
    title="Cosine similarity to the class means (CTM)",
    paper="Nguyen et al., A Cosine Similarity-based Method for Out-of-Distribution Detection, ICML Workshops",
    year=2023,
    url="https://arxiv.org/abs/2306.14920",
    needs=("features", "labels"),
)
class Cosine(StreamingHead):
    """Score ``-max_c cos(z, mu_c)`` over the class means; higher means more out-of-distribution.

    This is class-typical matching; HEAT's authors use it as a baseline, too. Cosines are computed in float64: for
    features far from the origin they differ from one by less than the precision of float32.
    """

    def accumulate(self, statistics: ScatterByClass | None, block: FeatureSet) -> ScatterByClass:
        """Add a block's rows to the class sums."""
        return ScatterByClass.of(self.vectors(block), block.labels, statistics, diagonal=True)  # type: ignore[arg-type]

    def finish(self, statistics: ScatterByClass, train: SelectedRows) -> State:
        """Keep the directions of the class means."""
        return {"directions": unit(statistics.means())}

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Return the negated largest cosine ``[B]``."""
        return -(unit(self.vectors(block).double()) @ fitted["directions"].T).amax(1)
