"""Reference rows: features of some calibration rows, to compare later rows with."""

from __future__ import annotations

__all__ = ["REFERENCE_ROWS", "Reference", "choose_reference"]

import dataclasses
from collections.abc import Sequence

import numpy as np

from featood.cache.feature_set import FeatureSet
from featood.heads.base.calibration import Calibration, predicted_classes

REFERENCE_ROWS = 1000
"""Largest number of reference rows."""


@dataclasses.dataclass(frozen=True, eq=False)
class Reference:
    """Rows of a calibration set."""

    column: str
    """Name of the column of the features."""
    features: np.ndarray
    """``[R, D]``."""
    scores: np.ndarray
    """``[R]``."""
    classes: np.ndarray | None
    """Predicted classes ``[R]``; None if the network does not classify."""
    ids: Sequence[str]
    """Names of the rows ``[R]``; empty if they have none."""

    def scaled(self, features: np.ndarray) -> np.ndarray:
        """Divide features ``[M, D]`` by their standard deviations among the reference rows, except by zero."""
        deviations = self.features.std(0)
        return features / np.where(deviations > 0, deviations, 1)


def choose_reference(calibration: Calibration, features: FeatureSet) -> Reference:
    """Return at most a thousand calibration rows, evenly spaced.

    Parameters
    ----------
    calibration : Calibration
        The calibration.
    features : FeatureSet
        The set that it was made of.
    """
    known = np.arange(len(features))
    if features.labels is not None:
        known = known[np.asarray(features.labels[:]) >= 0]
    chosen = np.unique(np.linspace(0, len(known) - 1, min(REFERENCE_ROWS, len(known))).round().astype(int))
    kept = known[chosen]
    classifies = features.logits is not None and (features.num_classes or 0) > 1
    classes = predicted_classes(features.logits) if classifies else None
    return Reference(
        features.main,
        np.asarray(features.feature()[kept], np.float32),
        calibration.scores[chosen],
        None if classes is None else classes[kept],
        () if features.ids is None else [str(name) for name in np.asarray(features.ids[kept])],
    )
