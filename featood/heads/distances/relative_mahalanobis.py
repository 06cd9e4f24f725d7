"""Mahalanobis distance relative to the distance from the distribution of all training rows."""

from __future__ import annotations

__all__ = ["RelativeMahalanobis"]

from typing import Any

from torch import Tensor

from featood.heads.base.fit import State
from featood.heads.base.rows import SelectedRows
from featood.heads.distances.mahalanobis import Mahalanobis
from featood.heads.registry import register
from featood.numerics.gaussian import Whitening, nearest_squared_distances
from featood.numerics.moments import ClassMoments


@register(
    "relative-mahalanobis",
    title="Relative Mahalanobis distance (RMD)",
    paper="Ren et al., A Simple Fix to Mahalanobis Distance for Improving Near-OOD Detection, ICML UDL workshop",
    year=2021,
    url="https://arxiv.org/abs/2106.09022",
    needs=("features", "labels"),
)
class RelativeMahalanobis(Mahalanobis):
    """Score ``min_c d_c(z) - d_0(z)``, d_0 being the squared distance under one Gaussian fitted to all rows.

    Both covariances are normalised by the number of rows, and both use the shrinkage and ridge of the within-class
    covariance, so that directions in which the classes do not differ cancel, however small their variance. Features
    that are constant in training cancel as well. The score may be negative; higher means more out-of-distribution.
    """

    def finish(self, statistics: ClassMoments, train: SelectedRows) -> State:
        """Factorise both covariances together and whiten the class means."""
        map_, background = self.whiten(
            statistics,
            lambda: map(self.labelled, train.blocks()),
            statistics.covariance(),
            what="the tied covariance, or that of all rows,",
        )
        state = {f"background_{name}": part for name, part in background._asdict().items()}
        return {**map_._asdict(), "means": map_(statistics.means()), **state}

    def prepare(self, state: State) -> Any:
        """Rebuild both whitening maps."""
        background = Whitening(*(state[f"background_{name}"] for name in Whitening._fields))
        return super().prepare(state), background

    def score_rows(self, rows: Tensor, fitted: Any) -> Tensor:
        """Return the squared distance to the nearest class minus the background distance ``[B]``."""
        (map_, means), background = fitted
        return nearest_squared_distances(map_(rows), means) - background(rows).square().sum(1)
