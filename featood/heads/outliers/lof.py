"""Local outlier factor."""

from __future__ import annotations

__all__ = ["LOF"]

import warnings
from typing import Any

import torch
from torch import Tensor

from featood.cache.feature_set import ROWS, FeatureSet
from featood.errors import DataError
from featood.heads.base.feature_head import FeatureHead
from featood.heads.base.fit import State
from featood.heads.base.rows import SelectedRows
from featood.heads.base.sampling import sampled_blocks, stacked
from featood.heads.registry import register
from featood.numerics.neighbours import Neighbours, build_index, search
from featood.options import option


@register(
    "lof",
    title="Local outlier factor",
    paper="Breunig et al., LOF: Identifying Density-Based Local Outliers, SIGMOD",
    year=2000,
    url="https://doi.org/10.1145/335191.335388",
    needs=("features",),
)
class LOF(FeatureHead):
    """Score the local density around the nearest neighbours of a row relative to that around the row itself.

    The score is about 1 in regions of uniform density and larger for isolated rows; it is that of scikit-learn's
    estimator with ``novelty=True``. The training rows are stored, and their densities computed again when the head is
    loaded. Neighbours are searched exactly, like those of `knn`; time and memory are proportional to the number of
    stored rows.
    """

    neighbors: int = option(20, "number of neighbours; all rows if there are fewer", low=1)
    rows: int = option(10_000, "number of training rows to keep, drawn at random", low=2)
    seed: int = option(0, "seed of the draw", low=0, high=2**32 - 1)

    def fit_state(self, train: SelectedRows) -> State:
        """Keep a sample of the rows."""
        # features of 16 bits are kept as they are
        stored = self.space == "none" and self.is_narrow(train)
        sample = (
            block.feature(self.feature)[:] if stored else self.vectors(block)
            for block in sampled_blocks(train, self.rows, self.seed)
        )
        kept = stacked(sample, min(self.rows, len(train.source)))
        if len(kept) < 2:
            raise DataError(f"lof needs two training rows, {train.source.name} has {len(kept)}")
        if self.neighbors >= len(kept):
            warnings.warn(f"lof: only {len(kept)} rows; all are neighbours of each other", stacklevel=2)
        return {"rows": kept}

    def prepare(self, state: State) -> Any:
        """Compute the density around each stored row, among the others."""
        bank = state["rows"]
        index, count = build_index(bank), min(self.neighbors, len(bank) - 1)
        parts = [search(index, part.double(), count + 1) for part in bank.split(ROWS)]
        near = Neighbours(*(torch.cat(columns) for columns in zip(*parts, strict=True)))
        # a row is not its own neighbour; if more rows equal it, it may not be among its nearest either
        own = near.rows == torch.arange(len(bank), device=bank.device)[:, None]
        own[:, -1] |= ~own.any(1)
        distances, rows = (part[~own].view(-1, count) for part in near)
        reach = distances[:, -1]
        return index, reach, _density(distances, reach[rows])

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Return the local outlier factor ``[B]``."""
        index, reach, densities = fitted
        queries = self.vectors(block).double()
        distances, rows = search(index, queries, min(self.neighbors, len(index.rows) - 1))
        return densities[rows].mean(1) / _density(distances, reach[rows])


def _density(distances: Tensor, reach: Tensor) -> Tensor:
    """Reciprocal of the mean reachability distance ``[B]``, from distances of neighbours and their reach ``[B, k]``."""
    # 1 / (mean + 1e-10), with scikit-learn's constant for equal rows; ONNX would take adding 1e-10 for adding 0
    return 1e10 / (1e10 * torch.maximum(distances, reach).mean(1) + 1)
