"""Mahalanobis distance to the nearest class mean."""

from __future__ import annotations

__all__ = ["Mahalanobis"]

from typing import Any

import torch
from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.heads.base.fit import State
from featood.heads.base.gaussian_head import GaussianHead
from featood.heads.base.moments_head import MomentsHead
from featood.heads.base.rows import SelectedRows
from featood.heads.registry import register
from featood.numerics.gaussian import Whitening, nearest_squared_distances
from featood.numerics.memory import by_chunks
from featood.numerics.moments import ClassMoments

CHUNK = 1024
"""Number of rows that are scored at a time."""


@register(
    "mahalanobis",
    title="Mahalanobis distance",
    paper="Lee et al., A Simple Unified Framework for Detecting Out-of-Distribution Samples, NeurIPS",
    year=2018,
    url="https://arxiv.org/abs/1807.03888",
    needs=("features", "labels"),
)
class Mahalanobis(GaussianHead, MomentsHead):
    """Score ``min_c (z - mu_c)' S^-1 (z - mu_c)`` with class means and one tied covariance.

    S is the maximum-likelihood covariance around the class means. If it is singular, a ridge is added (see `ridge`). A
    feature that is constant in training then has a tiny variance, so a row with any other value in it gets a large
    distance, unless ``--dead ignore`` drops such features as a pseudo-inverse does. Computed in float64, because small
    variances give large weights. Higher means more out-of-distribution.
    """

    def finish(self, statistics: ClassMoments, train: SelectedRows) -> State:
        """Factorise the tied covariance and whiten the class means."""
        what = f"the tied covariance of {self.feature}" if self.feature else "the tied covariance"
        map_ = self.whiten(statistics, lambda: map(self.labelled, train.blocks()), what=what)[0]
        return {**map_._asdict(), "means": map_(statistics.means())}

    def prepare(self, state: State) -> Any:
        """Rebuild the whitening map."""
        return Whitening(*(state[name] for name in Whitening._fields)), state["means"]

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Score a block by its features, some rows at a time, as larger temporaries take as long as the products."""
        return by_chunks(lambda rows: self.score_rows(rows.double(), fitted), CHUNK, self.vectors(block))

    def score_rows(self, rows: Tensor, fitted: Any) -> Tensor:
        """Return the squared distance of float64 rows ``[B, D]`` to the nearest class ``[B]``."""
        map_, means = fitted
        return nearest_squared_distances(map_(rows), means)

    def labelled(self, block: FeatureSet) -> tuple[Tensor, Tensor]:
        """Return the features ``[B, D]`` as stored, and the labels ``[B]``, of a block."""
        return self.vectors(block), torch.as_tensor(block.labels)
