"""Mahalanobis distance to the nearest class mean."""

from __future__ import annotations

__all__ = ["Mahalanobis"]

from typing import Any

from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.heads.base import State
from featood.heads.registry import option, register
from featood.heads.rows import SelectedRows
from featood.heads.streaming import StreamingHead
from featood.numerics.gaussian import Whitening, squared_distances, whitening
from featood.numerics.moments import ClassMoments


@register(
    "mahalanobis",
    title="Mahalanobis distance",
    paper="Lee et al., A Simple Unified Framework for Detecting Out-of-Distribution Samples, NeurIPS",
    year=2018,
    url="https://arxiv.org/abs/1807.03888",
    needs=("features", "labels"),
)
class Mahalanobis(StreamingHead):
    """Score ``min_c (z - mu_c)' S^-1 (z - mu_c)`` with class means and one tied covariance.

    S is the maximum-likelihood covariance around the class means plus `ridge` times the mean variance.
    A feature without variance in training thus counts as very narrow: alive in a test row, it makes that row
    far. ``--dead ignore`` leaves such features out instead, as a pseudo-inverse does.
    """

    ridge: float = option(1e-6, "ridge on the covariance, relative to the mean variance", low=0, high=1)
    dead: str = option("narrow", "features that are constant in training", choices=("narrow", "ignore"))

    def accumulate(self, statistics: ClassMoments | None, block: FeatureSet) -> ClassMoments:
        """Add a block's rows to the class moments."""
        return ClassMoments.of(self.vectors(block), block.labels, statistics)  # type: ignore[arg-type]

    def finish(self, statistics: ClassMoments, train: SelectedRows) -> State:
        """Factorise the tied covariance and whiten the class means."""
        map_ = self.whitening(statistics.mean(), statistics.within_covariance(), "the tied covariance")
        means = map_(statistics.means())
        return {**map_._asdict(), "means": means}

    def whitening(self, center: Tensor, covariance: Tensor, what: str) -> Whitening:
        """Whiten a covariance as the options say."""
        return whitening(center, covariance, self.ridge, what, self.dead == "ignore")

    def prepare(self, state: State) -> Any:
        """Rebuild the whitening map."""
        return Whitening(*(state[name] for name in Whitening._fields)), state["means"]

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Return the squared distance to the nearest class ``[B]``."""
        map_, means = fitted
        return squared_distances(map_(self.vectors(block)), means).amin(1)
