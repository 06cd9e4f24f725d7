"""Local outlier factor."""

from __future__ import annotations

__all__ = ["LOF"]

import warnings
from typing import Any

import torch
from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.errors import DataError
from featood.heads.base.feature_head import FeatureHead
from featood.heads.base.fit import State
from featood.heads.base.rows import SelectedRows
from featood.heads.base.sampling import sampled_blocks
from featood.heads.registry import register
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

    The score is about 1 in regions of uniform density and larger for isolated rows. The training rows are stored, and
    scikit-learn's estimator is refitted on them when the head is loaded. Scoring takes time and memory
    proportional to the number of stored rows.
    """

    neighbors: int = option(20, "number of neighbours; all rows if there are fewer", low=1)
    rows: int = option(10_000, "number of training rows to keep, drawn at random", low=2)
    seed: int = option(0, "seed of the draw", low=0, high=2**32 - 1)

    def fit_state(self, train: SelectedRows) -> State:
        """Keep a sample of the rows."""
        kept = torch.cat([self.vectors(block) for block in sampled_blocks(train, self.rows, self.seed)])
        if len(kept) < 2:
            raise DataError(f"lof needs two training rows, {train.source.name} has {len(kept)}")
        if self.neighbors >= len(kept):
            warnings.warn(f"lof: only {len(kept)} rows; all are neighbours of each other", stacklevel=2)
        return {"rows": kept.clone()}

    def prepare(self, state: State) -> Any:
        """Fit the estimator to the stored rows."""
        from sklearn.neighbors import LocalOutlierFactor

        rows = state["rows"].double().cpu().numpy()
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # scikit-learn warns about duplicates, whose density is indeed very high
            return LocalOutlierFactor(n_neighbors=min(self.neighbors, len(rows) - 1), novelty=True).fit(rows)

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Return the local outlier factor ``[B]``."""
        return torch.from_numpy(-fitted.score_samples(self.vectors(block).double().cpu().numpy()))
