"""Training rows of a detector, to show those nearest to an image."""

from __future__ import annotations

__all__ = ["TRAINING_ROWS", "Neighbour", "TrainingRows", "choose_training_rows"]

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from featood.cache.feature_set import FeatureSet
from featood.errors import UsageError
from featood.numerics.neighbours import build_index, search
from featood.numerics.spaces import unit

TRAINING_ROWS = 10_000
"""Largest number of training rows that a detector keeps."""


class Neighbour(NamedTuple):
    """A training row that is near to an image."""

    id: str
    """Its path or number."""
    distance: float
    """Euclidean distance between the features, scaled to unit length."""
    class_name: str = ""
    """Its class, if known."""


@dataclasses.dataclass(frozen=True, eq=False)
class TrainingRows:
    """Some rows of a training set."""

    column: str
    """Name of the column of the features."""
    features: np.ndarray
    """``[T, D]`` float16, of unit length."""
    labels: np.ndarray | None
    """Classes ``[T]``, negative if unknown; None if the set has none."""
    ids: Sequence[str]
    """Names of the rows ``[T]``."""

    def nearest(
        self, features: FeatureSet, count: int, classes: Sequence[str] = ()
    ) -> list[tuple[Neighbour, ...]]:
        """Return the nearest training rows of each row, the nearest first.

        Parameters
        ----------
        features : FeatureSet
            M rows.
        count : int
            Number of neighbours; at most all training rows.
        classes : sequence of str
            Names of the classes.
        """
        rows = unit(torch.from_numpy(np.asarray(features.feature(self.column)[:])).float())
        index = build_index(torch.from_numpy(self.features).float(), screen=False)  # for one search only
        found = search(index, rows, min(count, len(self.features)))
        return [
            tuple(
                Neighbour(self.ids[row], near, self._class_name(row, classes))
                for row, near in zip(places, values, strict=True)
            )
            for places, values in zip(found.rows.tolist(), found.values.tolist(), strict=True)
        ]

    def _class_name(self, row: int, classes: Sequence[str]) -> str:
        label = -1 if self.labels is None else int(self.labels[row])
        return "" if label < 0 else classes[label] if label < len(classes) else str(label)


def choose_training_rows(features: FeatureSet, count: int = TRAINING_ROWS, seed: int = 0) -> TrainingRows:
    """Return training rows, drawn at random if there are more than `count`.

    Raises
    ------
    UsageError
        If the set has no features.
    """
    if not features.features:
        raise UsageError(f"{features.name} has no features, so there are no neighbours")
    order = np.random.default_rng(seed).permutation(len(features))[:count]
    chosen = np.sort(order)
    rows = unit(torch.from_numpy(np.asarray(features.feature()[:])[chosen]).float())
    ids = np.arange(len(features)) if features.ids is None else np.asarray(features.ids[:])
    labels = None if features.labels is None else np.asarray(features.labels[:], np.int64)[chosen]
    return TrainingRows(features.main, rows.half().numpy(), labels, [str(name) for name in ids[chosen]])
