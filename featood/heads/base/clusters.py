"""Centers of k-means clusters of training rows."""

from __future__ import annotations

__all__ = ["cluster_centers"]

from collections.abc import Callable

import torch
from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.errors import DataError
from featood.heads.base.rows import SelectedRows
from featood.heads.base.sampling import sampled_blocks

ROWS_PER_CLUSTER = 256
RESTARTS = 5


def cluster_centers(
    train: SelectedRows, vectors: Callable[[FeatureSet], Tensor], clusters: int, seed: int, name: str
) -> Tensor:
    """Return the centers ``[K, D]`` of k-means clusters of a sample of the rows.

    Parameters
    ----------
    train : SelectedRows
        The rows of the fit, of which at most `ROWS_PER_CLUSTER` for each cluster are drawn.
    vectors : callable
        From a block to its rows ``[B, D]``.
    clusters : int
        Number of clusters.
    seed : int
        Seed of the sample and of k-means.
    name : str
        Name of the head, for messages.

    Raises
    ------
    DataError
        If there are fewer rows than clusters.
    """
    from sklearn.cluster import KMeans

    rows = torch.cat([vectors(block) for block in sampled_blocks(train, ROWS_PER_CLUSTER * clusters, seed)])
    if len(rows) < clusters:
        raise DataError(f"{name}: {len(rows)} rows are too few for {clusters} clusters; lower --clusters")
    found = KMeans(clusters, n_init=RESTARTS, random_state=seed).fit(rows.cpu().numpy())
    return torch.as_tensor(found.cluster_centers_, device=rows.device)
