"""Scores of a head as exact counts at some thresholds, from which the page draws its curves."""

from __future__ import annotations

__all__ = ["THRESHOLDS", "HeadCurves", "head_curves"]

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from featood.metrics.counts import checked_scores
from featood.report.plots.scores import robust_range

THRESHOLDS = 255
"""Largest number of thresholds: the position of a score among them fits into one byte."""
_BINS = 60
_LARGEST = 1e200
"""Bound of the scores on the page, of which differences must be finite."""


class HeadCurves(NamedTuple):
    """Counts of a head's scores; a row is flagged if its score is above the threshold."""

    thresholds: np.ndarray
    """Ascending scores ``[K]``, at most `THRESHOLDS`."""
    start: int
    """Position of the threshold that accepts 95 % of the ID rows."""
    below: dict[str, np.ndarray]
    """Number of rows ``[K]`` at or below each threshold, by set."""
    edges: np.ndarray
    """Edges of the bins; the outermost bins contain all rows beyond."""
    bins: dict[str, np.ndarray]
    """Number of rows in each bin, by set."""
    labelled: np.ndarray | None = None
    """Number of ID rows ``[K]`` with label and prediction at or below each threshold; None if there are none."""
    correct: np.ndarray | None = None
    """Number of those that are classified correctly ``[K]``."""

    def positions(self, scores: np.ndarray) -> np.ndarray:
        """Return the position of the first threshold at or above each score, uint8 ``[N]``; K if there is none."""
        return np.searchsorted(self.thresholds, _finite(scores)).astype(np.uint8)

    def as_json(self) -> dict[str, Any]:
        """Return the counts as lists, those by set in the order of the sets."""
        body: dict[str, Any] = {
            # nine digits distinguish float32 scores
            "thresholds": [float(f"{value:.9g}") for value in self.thresholds],
            "start": self.start,
            "below": [counts.tolist() for counts in self.below.values()],
            "edges": [float(f"{edge:.6g}") for edge in self.edges[[0, -1]]],
            "bins": [counts.tolist() for counts in self.bins.values()],
        }
        if self.labelled is not None and self.correct is not None:
            body |= {"labelled": self.labelled.tolist(), "correct": self.correct.tolist()}
        return body


def head_curves(
    scores: Mapping[str, ArrayLike], inliers: Sequence[str], correct: Mapping[str, np.ndarray] | None = None
) -> HeadCurves:
    """Count the rows of each set at or below some scores, and in bins.

    All thresholds are scores that occur, so the error rates at them are exact; they are quantiles of the ID rows and of
    each OOD set, and denser in the tails. JSON has no infinity, so infinite scores become 1e200.

    Parameters
    ----------
    scores : mapping of str to array
        Scores ``[N]`` by set.
    inliers : sequence of str
        Sets that count as in-distribution.
    correct : mapping of str to array, optional
        For sets whose rows have labels and predictions, 1 for a correct row, 0 for a wrong one, and -1 for a row
        without a label.

    Raises
    ------
    DataError
        If a set is empty or contains NaN.
    """
    given = {name: _finite(checked_scores(values, name)) for name, values in scores.items()}
    ordered = {name: np.sort(values) for name, values in given.items()}
    known = np.sort(np.concatenate([given[name] for name in inliers]))
    others = [values for name, values in ordered.items() if name not in inliers]
    accepted = np.quantile(known, 0.95, method="inverted_cdf")
    thresholds = _thresholds(known, others, accepted)
    low, high = robust_range(_inside(known), map(_inside, others))
    edges = np.linspace(low, high, _BINS + 1)
    counts = HeadCurves(
        thresholds,
        int(np.searchsorted(thresholds, accepted)),
        {name: np.searchsorted(values, thresholds, "right") for name, values in ordered.items()},
        edges,
        {name: np.histogram(np.clip(values, low, high), edges)[0] for name, values in ordered.items()},
    )
    if not correct:
        return counts
    values = np.concatenate([given[name] for name in correct])
    right = np.concatenate(list(correct.values()))
    labelled, correctly = (
        np.searchsorted(np.sort(values[rows]), thresholds, "right") for rows in (right >= 0, right == 1)
    )
    return counts._replace(labelled=labelled, correct=correctly)


def _finite(scores: np.ndarray) -> np.ndarray:
    return np.clip(scores, -_LARGEST, _LARGEST)


def _inside(scores: np.ndarray) -> np.ndarray:
    return scores[np.abs(scores) < _LARGEST]


def _thresholds(known: np.ndarray, others: Iterable[np.ndarray], accepted: float) -> np.ndarray:
    """Return at most `THRESHOLDS` scores, ascending, with `accepted` among them."""
    others = list(others)
    half = THRESHOLDS // 2
    found = np.unique(
        np.concatenate(
            [
                _quantiles(known, half),
                *(_quantiles(values, max(16, half // len(others))) for values in others),
            ]
        )
    )
    if len(found) >= THRESHOLDS:
        found = found[np.linspace(0, len(found) - 1, THRESHOLDS - 1).round().astype(int)]
    return np.union1d(found, accepted)


def _quantiles(values: np.ndarray, count: int) -> np.ndarray:
    """Return quantiles of sorted values: half of them evenly spaced, half dense in the tails."""
    even = np.linspace(0, 1, count - count // 2)
    tails = expit(np.linspace(-9, 9, count // 2))
    ranks = np.concatenate([even, tails]) * (len(values) - 1)
    return values[ranks.round().astype(int)]
