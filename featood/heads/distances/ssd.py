"""Mahalanobis distance of unit-length features to classes or k-means clusters."""

from __future__ import annotations

__all__ = ["SSD"]

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.errors import DataError
from featood.heads.base.clusters import cluster_centers
from featood.heads.base.feature_head import FeatureHead
from featood.heads.base.fit import State
from featood.heads.base.gaussian_head import GaussianHead
from featood.heads.base.rows import SelectedRows
from featood.heads.registry import register
from featood.numerics.gaussian import Whitening, nearest_squared_distances, squared_distances
from featood.numerics.moments import ClassMoments
from featood.numerics.quantiles import quantiles
from featood.numerics.spaces import unit
from featood.options import option


@register(
    "ssd",
    title="SSD: self-supervised outlier detection",
    paper="Sehwag et al., SSD: A Unified Framework for Self-Supervised Outlier Detection, ICLR",
    year=2021,
    url="https://arxiv.org/abs/2103.12051",
    needs=("features",),
)
class SSD(GaussianHead, FeatureHead):
    """Score the squared Mahalanobis distance of ``z / |z|`` to the nearest cluster, with one tied covariance.

    Clusters are the classes (SSD+), a single Gaussian of all rows if there are no labels, or the result of k-means.
    The tied covariance follows HEAT; with one cluster it equals the paper's, which uses a covariance per cluster
    if there are several. ``--feature std`` applies SSD to the spatial standard deviations, ``--clip`` to
    rectified activations (ReAct). The covariance is estimated as in the Mahalanobis head. Higher means more
    out-of-distribution.
    """

    clusters: int = option(
        0, "number of k-means clusters (0: the classes, or one cluster without labels)", low=0
    )
    clip: float = option(1.0, "clip features at this quantile of the training activations", low=0, high=1)
    seed: int = option(0, "seed of k-means", low=0, high=2**32 - 1)

    def fit_state(self, train: SelectedRows) -> State:
        """Find the clipping limit and the clusters, then compute the moments in a further pass."""
        limit = torch.tensor(math.inf)
        if self.clip < 1:
            limit = torch.tensor(quantiles(lambda: map(self.vectors, train.blocks()), [self.clip])[0])
        centers = None
        if self.clusters:
            shaped = partial(self._shaped, limit=limit)
            centers = cluster_centers(train, shaped, self.clusters, self.seed, self.name)

        def clustered() -> Iterator[tuple[Tensor, Tensor | None]]:
            for block in train.blocks():
                rows = self._shaped(block, limit)
                labels = block.labels if centers is None else squared_distances(rows, centers).argmin(1)
                yield rows, labels if labels is None else torch.as_tensor(labels)

        moments = None
        for rows, labels in clustered():
            moments = ClassMoments.of(rows, labels, moments)
        if moments is None:
            raise DataError(f"{train.source.name} has no rows to fit on")
        map_ = self.whiten(moments, clustered)[0]
        return {**map_._asdict(), "means": map_(moments.means()), "limit": limit}

    def prepare(self, state: State) -> Any:
        """Rebuild the whitening map."""
        return Whitening(*(state[name] for name in Whitening._fields)), state["means"], state["limit"]

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Return the squared distance to the nearest cluster ``[B]``."""
        map_, means, limit = fitted
        return nearest_squared_distances(map_(self._shaped(block, limit)), means)

    def _shaped(self, block: FeatureSet, limit: Tensor) -> Tensor:
        return unit(self.vectors(block).double().clamp(max=float(limit)))
