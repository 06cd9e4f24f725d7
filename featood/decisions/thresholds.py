"""Thresholds on scores that keep a false-alarm rate on new in-distribution rows."""

from __future__ import annotations

__all__ = ["alarm_rate_interval", "class_thresholds", "rows_needed", "threshold"]

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from scipy import special

from featood.decisions.checks import calibration_scores, check_rate
from featood.errors import DataError


def threshold(scores: ArrayLike, alarm_rate: float = 0.05, confidence: float | None = None) -> float:
    """Return the threshold above which rows are out-of-distribution, from scores of a calibration set.

    It is the smallest of the scores such that a new in-distribution row, exchangeable with those of the calibration
    set, exceeds it with a probability of at most `alarm_rate`. This probability includes the draw of the calibration
    set: of some sets the false-alarm rate is higher, of others lower (:func:`alarm_rate_interval`). With `confidence`,
    the rate is at most `alarm_rate` for that share of all calibration sets.

    Parameters
    ----------
    scores : array of shape [N]
        Scores of in-distribution rows that the head was not fitted on, higher = more out-of-distribution.
    alarm_rate : float
        Share of in-distribution rows to flag, in (0, 1): 1 minus the true-positive rate of accepting them.
    confidence : float, optional
        In (0, 1), such as 0.95.

    Returns
    -------
    float
        A row is flagged if its score is above this; rows with the same score are accepted.

    Raises
    ------
    UsageError
        If a rate is not in (0, 1).
    DataError
        If there are too few rows; the message has the number of rows needed (:func:`rows_needed`).

    References
    ----------
    Papadopoulos et al., Inductive Confidence Machines for Regression, ECML 2002; law of the rate: Vovk, Conditional
    Validity of Inductive Conformal Predictors, ACML 2012.

    Example
    -------
    >>> threshold([0.1, 0.4, 0.2, 0.9, 0.3, 0.5, 0.8, 0.6, 0.7], alarm_rate=0.2)
    0.8
    """
    values = np.sort(calibration_scores(scores))
    accepted = _accepted_rows(len(values), alarm_rate, confidence)
    return float(values[accepted - 1])


def _accepted_rows(rows: int, alarm_rate: float, confidence: float | None = None) -> int:
    """Return how many of some calibration rows are not above their threshold, ties aside.

    Raises
    ------
    UsageError, DataError
        See :func:`threshold`.
    """
    check_rate(alarm_rate, "the false-alarm rate")
    if confidence is None:
        accepted = rows + 1 - _floor(alarm_rate * (rows + 1))
    else:
        check_rate(confidence, "the confidence")
        # of k accepted rows, the false-alarm rate follows Beta(n + 1 - k, k); more accepted rows, lower rates
        counts = np.arange(1, rows + 1)
        kept = special.betaincc(rows + 1 - counts, counts, alarm_rate) <= 1 - confidence
        accepted = int(counts[kept][0]) if kept.any() else rows + 1
    if accepted > rows:
        needed = rows_needed(alarm_rate, confidence)
        certain = "" if confidence is None else f" with {100 * confidence:g} % confidence"
        raise DataError(
            f"{rows} calibration rows are too few for a false-alarm rate of {100 * alarm_rate:g} %{certain}; "
            f"{needed} are needed"
        )
    return accepted


def rows_needed(alarm_rate: float, confidence: float | None = None) -> int:
    """Return the least number of calibration rows for a threshold.

    Parameters
    ----------
    alarm_rate, confidence
        See :func:`threshold`.
    """
    if confidence is None:
        return math.ceil((1 / alarm_rate - 1) * (1 - 1e-9))
    # all rows are accepted: P(Beta(1, n) > rate) = (1 - rate)^n
    return math.ceil(math.log1p(-confidence) / math.log1p(-alarm_rate) * (1 - 1e-9))


def alarm_rate_interval(
    rows: int, alarm_rate: float = 0.05, confidence: float | None = None, level: float = 0.95
) -> tuple[float, float]:
    """Return where the false-alarm rate of a threshold lies, for the share `level` of all calibration sets.

    For continuous scores. With ties, the rate is lower.

    Parameters
    ----------
    rows : int
        Number of calibration rows.
    alarm_rate, confidence
        See :func:`threshold`.
    level : float
        In (0, 1); both ends leave out the same share.
    """
    accepted = _accepted_rows(rows, alarm_rate, confidence)
    tail = (1 - level) / 2
    low, high = special.betaincinv(rows + 1 - accepted, accepted, [tail, 1 - tail])
    return float(low), float(high)


def class_thresholds(
    scores: ArrayLike,
    classes: Int[np.ndarray, "N"],
    num_classes: int,
    alarm_rate: float = 0.05,
    names: Sequence[str] = (),
) -> Float[np.ndarray, "C"]:
    """Return a threshold for each class, which keeps the false-alarm rate among the rows of that class (Mondrian).

    Parameters
    ----------
    scores : array of shape [N]
        See :func:`threshold`.
    classes : array of shape [N]
        Class of each row, as it is known for new rows: the predicted one.
    num_classes : int
        Number of classes C.
    alarm_rate : float
        See :func:`threshold`.
    names : sequence of str
        Names of the classes, for messages.

    Raises
    ------
    DataError
        If there are too few rows of a class.

    References
    ----------
    Vovk et al., Algorithmic Learning in a Random World, 2005, section 4.5.
    """
    values = calibration_scores(scores)
    check_rate(alarm_rate, "the false-alarm rate")
    counts = np.bincount(classes, minlength=num_classes)
    needed = rows_needed(alarm_rate)
    if few := [number for number in range(num_classes) if counts[number] < needed]:
        about = ", ".join(f"{names[number] if names else number} ({counts[number]})" for number in few[:5])
        more = f" and {len(few) - 5} more" if len(few) > 5 else ""
        raise DataError(
            f"{needed} calibration rows of each class are needed for a false-alarm rate of {100 * alarm_rate:g} %; "
            f"there are fewer of {about}{more}"
        )
    order = np.lexsort((values, classes))
    accepted = counts + 1 - np.floor(alarm_rate * (counts + 1) + 1e-9).astype(int)
    return values[order][np.cumsum(counts) - counts + accepted - 1]


def _floor(value: float) -> int:
    # a product such as 0.07 * 100 may be slightly below a whole number
    return math.floor(value + 1e-9)
