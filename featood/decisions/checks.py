"""Checks of what decisions are made from."""

from __future__ import annotations

__all__ = ["calibration_scores", "check_rate"]

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from featood.errors import DataError, UsageError
from featood.metrics.counts import checked_scores


def calibration_scores(scores: ArrayLike) -> Float[np.ndarray, "N"]:
    """Return the scores of a calibration set as float64 ``[N]``.

    Raises
    ------
    DataError
        If there are none, or they are not numbers.
    """
    if not np.size(scores):
        raise DataError("there are no calibration scores")
    return checked_scores(scores, "calibration")


def check_rate(value: float, what: str) -> None:
    """Check that a number is in (0, 1).

    Raises
    ------
    UsageError
        If it is not; the text names it.
    """
    if not 0 < value < 1:
        raise UsageError(f"{what} must be between 0 and 1, not {value:g}")
