"""The share of flagged rows in a stream, with an interval that holds at all times."""

from __future__ import annotations

__all__ = ["running_interval"]

import math

import scipy
from scipy import special

from featood.decisions.checks import check_rate
from featood.errors import DataError
from featood.metrics.intervals import Interval


def running_interval(hits: int, rows: int, level: float = 0.95) -> Interval:
    """Return a share of rows with an interval that may be looked at after each row.

    If each row is a hit with the same probability, independently of the others, that probability lies in all of the
    intervals, from the first row on, with a probability of at least `level`. It is wider than that of
    :func:`~featood.metrics.binomial_interval`, which holds for one number of rows that was chosen in advance.

    Parameters
    ----------
    hits : int
        Number of hits, such as rows above a threshold.
    rows : int
        Number of rows so far.
    level : float
        In (0, 1).

    Raises
    ------
    DataError
        If there are no rows, or `hits` is not between 0 and their number.

    References
    ----------
    Robbins, Statistical Methods Related to the Law of the Iterated Logarithm, 1970, with a mixture Beta(1/2, 1/2).

    Example
    -------
    >>> [round(value, 3) for value in running_interval(5, 100)]
    [0.05, 0.007, 0.156]
    """
    check_rate(level, "the level")
    if not 0 <= hits <= rows or rows < 1:
        raise DataError(f"a share needs 0 <= hits <= rows and at least one row, got {hits} of {rows}")
    misses, share = rows - hits, hits / rows
    mixture = special.betaln(hits + 0.5, misses + 0.5) - special.betaln(0.5, 0.5)

    def excess(probability: float) -> float:
        """Logarithm of the capital of a bet against a probability, minus that at which it is refuted."""
        likelihood = special.xlogy(hits, probability) + special.xlog1py(misses, -probability)
        return float(mixture - likelihood + math.log1p(-level))

    low = scipy.optimize.brentq(excess, 1e-300, share) if hits else 0.0
    high = scipy.optimize.brentq(excess, share, 1 - 1e-16) if misses else 1.0
    return Interval(share, low, high)
