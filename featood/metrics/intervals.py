"""Intervals and tests with closed formulas: DeLong's for AUROC, and the exact binomial for shares of rows."""

from __future__ import annotations

__all__ = [
    "Difference",
    "Interval",
    "Placements",
    "binomial_interval",
    "delong_difference",
    "delong_interval",
    "fpr_interval",
    "placements",
]

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy.special import betaincinv, expit, logit, ndtr, ndtri

from featood.errors import DataError, UsageError
from featood.metrics.counts import ScoreCounts, rank_scores
from featood.metrics.detection import fpr_at_tpr_id


class Interval(NamedTuple):
    """A value and the bounds of its interval."""

    estimate: float
    low: float
    high: float


class Difference(NamedTuple):
    """A difference between two heads, the bounds of its interval, and the p-value of its test."""

    estimate: float
    low: float
    high: float
    p: float
    """Two-sided p-value of the hypothesis that the difference is 0."""


@dataclass(frozen=True, eq=False)
class Placements:
    """Placement of each row among the rows of the other side; AUROC is their mean (DeLong et al., 1988).

    `placements` computes them for one set. `Placements.mean` averages several sets with the same ID rows, and
    ``first - second`` compares two heads on the same rows.

    Attributes
    ----------
    id : ndarray of shape [N]
        Share of the OOD rows that score above each ID row, ties counting ½; for several sets, the mean share.
    ood : tuple of ndarray, shape [M]
        For each set, the share of the ID rows that score below each OOD row, ties counting ½.
    weights : tuple of float
        Weight of each set in the mean, relative to equal weights.
    """

    id: Float[np.ndarray, "N"]
    ood: tuple[Float[np.ndarray, "_"], ...]
    weights: tuple[float, ...] = (1.0,)

    @classmethod
    def mean(cls, sets: Sequence[Placements]) -> Placements:
        """Average several sets with the same ID rows, with equal weights; a set may be a mean of sets itself."""
        ood = tuple(rows for part in sets for rows in part.ood)
        shares = [(len(part.ood) * len(sets), weight) for part in sets for weight in part.weights]
        weights = tuple(weight * len(ood) / share for share, weight in shares)
        return cls(np.mean([part.id for part in sets], 0), ood, weights)

    def __sub__(self, other: Placements) -> Placements:
        ours, theirs = ([len(rows) for rows in (part.id, *part.ood)] for part in (self, other))
        if ours != theirs:
            raise DataError(
                f"a paired comparison needs the same rows for both heads, got {ours} and {theirs}"
            )
        ood = tuple(first - second for first, second in zip(self.ood, other.ood, strict=True))
        return Placements(self.id - other.id, ood, self.weights)

    @property
    def estimate(self) -> float:
        """AUROC or mean AUROC of several sets, or the difference of two heads in it."""
        return float(
            np.mean([weight * rows.mean() for weight, rows in zip(self.weights, self.ood, strict=True)])
        )

    @cached_property
    def variance(self) -> float:
        """DeLong's variance of the estimate; the ID rows, which all sets share, are counted once.

        Infinite if a side has a single row.
        """
        parts = [
            weight**2 * _variance_of_mean(rows) for weight, rows in zip(self.weights, self.ood, strict=True)
        ]
        ood = sum(parts) / len(self.ood) ** 2
        return _variance_of_mean(self.id) + ood

    @property
    def pairs(self) -> list[int]:
        """For each set, the number of disjoint pairs of an ID and an OOD row."""
        return [min(len(self.id), len(rows)) for rows in self.ood]


def placements(id_scores: ArrayLike, ood_scores: ArrayLike) -> Placements:
    """Compute the placement of each row among the rows of the other side, from one sort.

    Parameters
    ----------
    id_scores, ood_scores : array of shape [N] and [M]
        Higher = more out-of-distribution.

    Raises
    ------
    DataError
        If either side is empty or contains NaN. All functions of scores in this module have the same errors.
    """
    values, id_ranks, ood_ranks = rank_scores(id_scores, ood_scores)
    counts = ScoreCounts(
        values, *(np.bincount(ranks, minlength=len(values)) for ranks in (id_ranks, ood_ranks))
    )
    above = counts.n_ood - counts.ood_below + counts.ood / 2
    below = counts.id_below - counts.id / 2
    return Placements((above / counts.n_ood)[id_ranks], ((below / counts.n_id)[ood_ranks],))


def delong_interval(scores: tuple[ArrayLike, ArrayLike] | Placements, level: float = 0.95) -> Interval:
    """Interval of AUROC by DeLong's variance (DeLong et al., 1988), on the logit scale.

    The distribution of AUROC is skewed near 1; its logit is less skewed, and an interval on the logit scale is within
    [0, 1] (Pepe, 2003). With few rows and an AUROC near 1, the coverage is still below the level: for samples of 1,000
    ID and 100 OOD rows and an AUROC of 0.99, 95 % intervals cover it in 91 % (``benchmarks/intervals.py``).

    The variance is 0 if ID and OOD are perfectly separated, in either direction, or all scores are equal, although
    the estimate is uncertain. In these cases, the interval uses that each of the ``k = min(N, M)`` disjoint pairs of an
    ID and an OOD row has the same outcome; by the exact binomial, the share of all pairs with this outcome is at least
    ``((1 - level) / 2) ** (1 / k)``.

    Parameters
    ----------
    scores : pair of arrays, or Placements
        ID and OOD scores of shape [N] and [M], or their `placements`.
    level : float
        Coverage of the interval, in (0, 1).

    Returns
    -------
    Interval
        [0, 1] if a side has a single row.
    """
    _check_level(level)
    placed = scores if isinstance(scores, Placements) else placements(*scores)
    estimate, variance = placed.estimate, placed.variance
    if np.isinf(variance):
        return Interval(estimate, 0.0, 1.0)
    if variance == 0:
        tail = (1 - level) / 2 / len(placed.pairs)
        known = np.array([tail ** (1 / k) for k in placed.pairs])
        # the outcome of the remaining pairs is unknown: all may be in either order
        low = float(np.mean(known * placed.weights * [rows.mean() for rows in placed.ood]))
        return Interval(estimate, low, low + float(np.mean(placed.weights * (1 - known))))
    middle = logit(estimate)
    half = -ndtri((1 - level) / 2) * np.sqrt(variance) / (estimate * (1 - estimate))
    return Interval(estimate, float(expit(middle - half)), float(expit(middle + half)))


def delong_difference(
    first: tuple[ArrayLike, ArrayLike] | Placements,
    second: tuple[ArrayLike, ArrayLike] | Placements,
    level: float = 0.95,
) -> Difference:
    """Interval and test of AUROC(first) - AUROC(second), for two heads scored on the same rows (DeLong et al., 1988).

    If both AUROCs have variance 0 (see `delong_interval`), the interval is computed from the bounds of both intervals
    at level ``(1 + level) / 2``, and the test is the sign test over disjoint pairs of rows.

    Parameters
    ----------
    first, second : pair of arrays, or Placements
        ID and OOD scores of each head, for the same rows in the same order.
    level : float
        Coverage of the interval, in (0, 1).

    Raises
    ------
    DataError
        If the heads have different numbers of rows, or scores are empty or NaN.
    """
    _check_level(level)
    one, two = (head if isinstance(head, Placements) else placements(*head) for head in (first, second))
    difference = one - two
    estimate, variance = difference.estimate, difference.variance
    if np.isinf(variance):
        return Difference(estimate, -1.0, 1.0, 1.0)
    if one.variance == two.variance == 0:
        p = min(1.0, 2.0 ** (1 - min(one.pairs))) if estimate else 1.0
        ours, theirs = (delong_interval(head, (1 + level) / 2) for head in (one, two))
        return Difference(estimate, ours.low - theirs.high, ours.high - theirs.low, p)
    error = float(np.sqrt(variance))
    half = -float(ndtri((1 - level) / 2)) * error
    p = 2 * float(ndtr(-abs(estimate) / error)) if error else float(estimate == 0)
    return Difference(estimate, max(estimate - half, -1.0), min(estimate + half, 1.0), p)


def binomial_interval(hits: int, rows: int, level: float = 0.95) -> Interval:
    """Exact interval of a share of independent rows (Clopper and Pearson, 1934), such as accuracy.

    Its coverage is at least the given level for any number of rows, and higher for few rows.

    Raises
    ------
    DataError
        If there are no rows, or `hits` is not between 0 and their number.
    UsageError
        If `level` is not in (0, 1).
    """
    _check_level(level)
    if not 0 <= hits <= rows or rows < 1:
        raise DataError(f"a share needs 0 <= hits <= rows and at least one row, got {hits} of {rows}")
    tail = (1 - level) / 2
    low = float(betaincinv(hits, rows - hits + 1, tail)) if hits else 0.0
    high = float(betaincinv(hits + 1, rows - hits, 1 - tail)) if hits < rows else 1.0
    return Interval(hits / rows, low, high)


def fpr_interval(
    id_scores: ArrayLike, ood_scores: ArrayLike, tpr: float = 0.95, level: float = 0.95
) -> Interval:
    """Exact binomial interval of the share of OOD accepted at the threshold that accepts `tpr` of *these* ID rows.

    The interval is conditional on the threshold: it covers the share of all OOD rows that a detector with this
    threshold accepts. The threshold is estimated from the ID rows, so the coverage of the FPR95 of the head, at the
    threshold that accepts 95 % of *all* ID, is too low: 71 to 91 % with equal numbers of ID and OOD rows
    (``benchmarks/intervals.py``). For the FPR95 of the head, resample both sides with `bootstrap_intervals`.
    """
    share = fpr_at_tpr_id(id_scores, ood_scores, tpr)
    rows = len(np.asarray(ood_scores))
    return binomial_interval(round(share * rows), rows, level)


def _variance_of_mean(values: Float[np.ndarray, "N"]) -> float:
    if len(values) < 2:
        return float("inf")
    # subtracting the first value makes the variance of equal values exactly 0
    return float(np.var(values - values[0], ddof=1)) / len(values)


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise UsageError(f"the level of an interval must be in (0, 1), got {level}")
