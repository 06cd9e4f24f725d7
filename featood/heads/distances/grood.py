"""Nearest neighbours among gradients with respect to a prototype of outliers."""

from __future__ import annotations

__all__ = ["GROOD", "prototype_gradients"]

from typing import Any

import torch
from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.heads.base.correct_rows import is_correct, no_correct_rows
from featood.heads.base.feature_head import FeatureHead
from featood.heads.base.fit import State
from featood.heads.base.rows import SelectedRows
from featood.heads.base.sampling import stacked
from featood.heads.registry import register
from featood.numerics.banks import Bank
from featood.numerics.gaussian import squared_distances
from featood.numerics.moments import ClassSums
from featood.numerics.neighbours import build_index, search
from featood.numerics.spaces import unit


@register(
    "grood",
    title="Gradient-aware detection (GROOD)",
    paper="ElAraby et al., GROOD: Gradient-Aware Out-of-Distribution Detection, TMLR",
    year=2025,
    url="https://arxiv.org/abs/2312.14427",
    needs=("features", "logits", "labels"),
    uses=("outliers",),
)
class GROOD(FeatureHead):
    """Score the distance to the nearest training row in the space of gradients with respect to an outlier prototype.

    A classifier has the logits ``-|z - m_c|`` for the class means m_c and ``-|z - o|`` for the outlier prototype o. The
    gradient of its cross-entropy with respect to o is ``s (z - o) / |z - o|``, where s is the probability of the
    outliers, for any class. The bank has the gradients of the training rows that the backbone classifies correctly.

    With outliers (``--outliers``), o is their mean, as in the authors' defaults, which take validation images.
    Otherwise o is the mean of the class means, another option of the authors; their prototypes of blurred noise and of
    mixtures of hidden states need the images. The authors search an approximate index for the nearest gradient; here
    the search is exact. Higher means more out-of-distribution.
    """

    def fit_state(self, train: SelectedRows) -> State:
        """Compute the prototypes in a first pass, and keep correctly classified rows in a second."""
        sums = train.sum(self._add)
        means, outliers = sums.means(), sums.classes == 0
        known = means[~outliers]
        outlier = means[outliers][0] if bool(outliers.any()) else known.mean(0)
        right = (block.rows(is_correct(block)) for block in train.blocks())
        rows = stacked((block.feature(self.feature)[:] for block in right), len(train.source))
        if not len(rows):
            raise no_correct_rows(self.name, train)
        return {"rows": rows, "means": known, "outlier": outlier}

    def prepare(self, state: State) -> Any:
        """Build the index of the gradients."""
        bank = Bank(state["rows"], lambda rows, _: self._gradients(rows, state))
        return state, build_index(bank)

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Return the distance ``[B]``."""
        state, index = fitted
        return search(index, self._gradients(self.vectors(block), state), 1).values[:, 0]

    def _add(self, sums: ClassSums | None, block: FeatureSet) -> ClassSums:
        """Add a block's rows; class 0 has the outliers, the others are raised by one."""
        return ClassSums.of(self.vectors(block), (torch.as_tensor(block.labels) + 1).clamp(min=0), sums)

    def _gradients(self, rows: Tensor, state: State) -> Tensor:
        return prototype_gradients(rows.double(), state["means"], state["outlier"]).float()


def prototype_gradients(rows: Tensor, means: Tensor, outlier: Tensor) -> Tensor:
    """Return the gradients ``s (z - o) / |z - o|`` of rows ``[B, D]``, from class means ``[C, D]`` and o ``[D]``."""
    logits = -squared_distances(rows, torch.cat([means, outlier[None]])).sqrt()
    return logits.softmax(1)[:, -1:] * unit(rows - outlier)
