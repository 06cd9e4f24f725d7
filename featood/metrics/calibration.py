"""Calibration beyond the expected error: its largest bin, the parts of the Brier score, and confidence on OOD rows."""

from __future__ import annotations

__all__ = ["BrierParts", "brier_parts", "divergence_from_uniform", "max_calibration_error"]

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy.special import log_softmax

from featood.errors import DataError
from featood.metrics.classification import reliability_curve
from featood.metrics.counts import checked_indices


class BrierParts(NamedTuple):
    """Parts of the Brier score, ``reliability - resolution + uncertainty``."""

    reliability: float
    """Squared distance between predicted and observed frequencies; lower is better."""
    resolution: float
    """Squared distance of the observed frequencies of the groups from those of all rows; higher is better."""
    uncertainty: float
    """Variance of the labels, which no prediction changes."""


def max_calibration_error(logits: ArrayLike, labels: ArrayLike, bins: int = 15) -> float:
    """Largest gap between confidence and accuracy among the bins of `reliability_curve`; lower is better.

    Parameters and errors are those of :func:`featood.metrics.expected_calibration_error`.
    """
    curve = reliability_curve(logits, labels, bins)
    return float(np.nanmax(np.abs(curve.accuracy - curve.confidence)))


def brier_parts(logits: ArrayLike, labels: ArrayLike) -> BrierParts:
    """Murphy's decomposition of the Brier score, with the rows grouped by their predicted class.

    The sum of the parts equals the Brier score if the rows of a group have equal probabilities.

    Parameters
    ----------
    logits : array of shape [N, C]
        Logits; the softmax is taken in float64.
    labels : integer array of shape [N]
        Class indices. Rows with a label < 0 are left out.

    Raises
    ------
    DataError
        If no row is labelled, or a label is >= C.
    """
    labels = checked_indices(labels, "labels")
    rows = np.flatnonzero(labels >= 0)
    p, labels = np.exp(_log_softmax(logits)[rows]), labels[rows]
    classes = p.shape[1]
    if not len(rows) or labels.max() >= classes:
        raise DataError(f"the labels are not classes of logits [N, {classes}], or no row has a label")
    groups = p.argmax(1)
    size = np.bincount(groups, minlength=classes)
    observed, predicted = np.zeros((classes, classes)), np.zeros((classes, classes))
    np.add.at(observed, (groups, labels), 1)
    np.add.at(predicted, groups, p)
    filled = size > 0
    observed, predicted, size = observed[filled], predicted[filled], size[filled]
    overall = np.bincount(labels, minlength=classes) / len(rows)
    share, mean = size / len(rows), observed / size[:, None]
    return BrierParts(
        float(share @ ((predicted / size[:, None] - mean) ** 2).sum(1)),
        float(share @ ((mean - overall) ** 2).sum(1)),
        float((overall * (1 - overall)).sum()),
    )


def divergence_from_uniform(logits: ArrayLike) -> float:
    """Mean Kullback-Leibler divergence KL(uniform || softmax) in nats; low for rows without a confident class.

    Raises
    ------
    DataError
        If a logit is not finite, or there are no rows.
    """
    log_p = _log_softmax(logits)
    return float(-log_p.mean() - np.log(log_p.shape[1]))


def _log_softmax(logits: ArrayLike) -> Float[np.ndarray, "N C"]:
    logits = np.asarray(logits, dtype=np.float64)
    if logits.ndim != 2 or not logits.size or not np.isfinite(logits).all():
        raise DataError(f"expected finite logits [N, C], got shape {list(logits.shape)}")
    return log_softmax(logits, axis=1)
