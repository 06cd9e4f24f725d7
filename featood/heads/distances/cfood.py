"""Concentration-free outlier factor: the size of neighbourhoods that contain a row."""

from __future__ import annotations

__all__ = ["CFOOD", "smallest_sizes"]

import math
from typing import Any

import torch
from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.errors import DataError
from featood.heads.base.feature_head import FeatureHead, space_option
from featood.heads.base.fit import State
from featood.heads.base.rows import SelectedRows
from featood.heads.base.sampling import sampled_blocks, stacked
from featood.heads.registry import register
from featood.numerics.gaussian import squared_distances
from featood.numerics.memory import by_chunks
from featood.options import option

SIZES = torch.cat(
    [
        torch.linspace(*part, dtype=torch.float64)
        for part in ((1e-3, 0.1, 100), (0.105, 0.5, 81), (0.51, 0.99, 49))
    ]
)
"""Sizes of a neighbourhood, as shares of the reference rows."""
QUERIES = 256
"""Rows that are compared with the reference rows at a time."""


@register(
    "cfood",
    title="Concentration-free outlier factor (CF-OOD)",
    paper="Angiulli et al., CF-OOD: Concentration-Free Density Estimation for Reliable Out-of-Distribution Detection, "
    "SISAP",
    year=2025,
    url="https://doi.org/10.1007/978-3-032-06069-3_5",
    needs=("features",),
)
class CFOOD(FeatureHead):
    """Score the smallest share s for which the row is among the s n nearest rows of a share r of n reference rows.

    As in the authors' code, s is one of 230 values from 0.001 to 0.99, or 1, so many rows have the same score. Their
    reference is a tenth of the rows of CIFAR, which are 5,000. Higher means more out-of-distribution.
    """

    space: str = space_option("l2")
    share: float = option(0.01, "share r of the reference rows", low=1e-9, high=1)
    rows: int = option(5000, "number n of reference rows, drawn from the training rows", low=2)
    seed: int = option(0, "seed of the draw", low=0, high=2**32 - 1)

    def fit_state(self, train: SelectedRows) -> State:
        """Keep reference rows, and their squared distances from neighbours at each size of the neighbourhood."""
        sample = (self.vectors(block).float() for block in sampled_blocks(train, self.rows, self.seed))
        rows = stacked(sample, min(self.rows, len(train.source)))
        if len(rows) < 2:
            raise DataError(f"cfood needs two training rows, {train.source.name} has {len(rows)}")
        ranks = (SIZES * len(rows)).long().clamp(1, len(rows) - 1).to(rows.device)

        def reach(part: Tensor) -> Tensor:
            # the nearest is the row itself
            return squared_distances(part.double(), rows.double()).sort(1).values[:, ranks]

        return {"rows": rows, "reach": by_chunks(reach, QUERIES, rows)}

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Return the share ``[B]``."""
        count = max(1, math.ceil(self.share * len(fitted["rows"]) - 1e-9))

        def score(part: Tensor) -> Tensor:
            distances = squared_distances(fitted["rows"].double(), part.double())
            return smallest_sizes(distances, fitted["reach"], count)

        return by_chunks(score, QUERIES, self.vectors(block))


def smallest_sizes(distances: Tensor, reach: Tensor, count: int) -> Tensor:
    """Return the smallest of `SIZES` at which a row is near `count` of N reference rows ``[B]``; 1 if there is none.

    Parameters
    ----------
    distances : Tensor
        From each reference row to each row ``[N, B]``.
    reach : Tensor
        Distances from each reference row to the farthest row of its neighbourhood of each size ``[N, S]``.
    count : int
        Number of reference rows.
    """
    places = torch.searchsorted(reach, distances).topk(count, dim=0, largest=False).values[-1]
    return torch.cat([SIZES, SIZES.new_ones(1)]).to(distances)[places]
