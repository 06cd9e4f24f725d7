"""Comparison of several heads over several sets: Friedman's and Conover's tests of ranks, and Holm's correction."""

from __future__ import annotations

__all__ = ["Ranking", "cliques", "holm", "rank_heads"]

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike
from scipy.special import stdtr
from scipy.stats import friedmanchisquare, rankdata

from featood.errors import DataError


class Ranking(NamedTuple):
    """Ranks of H heads over several sets, and tests of their differences."""

    mean_ranks: Float[np.ndarray, "H"]
    """``[H]``; 1 means best on every set."""
    statistic: float
    """Friedman's chi-squared, corrected for ties."""
    p: float
    """p-value of Friedman's test, for the hypothesis that all heads are equally good."""
    pairwise: Float[np.ndarray, "H H"]
    """``[H, H]`` p-values of Conover's test of each pair, after Holm's correction; 1 on the diagonal."""
    cliques: list[list[int]]
    """Maximal groups of heads in which no two differ, by mean rank; a head that differs from all others is alone."""


def rank_heads(values: ArrayLike, level: float = 0.95) -> Ranking:
    """Test by their ranks on several sets whether heads differ, and which.

    Friedman's test decides whether any heads differ. If they do, each pair is tested by its rank sums (Conover, 1999,
    section 5.8), ``t = |R_i - R_j| / sqrt(2 (b A - sum R^2) / ((b - 1)(k - 1)))`` for b sets and k heads, where A is
    the sum of all squared ranks, with ``(b - 1)(k - 1)`` degrees of freedom and Holm's correction for the number of
    pairs. Otherwise, all heads form one clique (Demsar, 2006).

    The samples of these tests are the sets, so a few sets give little power, whatever their numbers of rows. If the
    heads have the same order on every set, the variance of t is 0, and all pairs with different ranks differ.

    Parameters
    ----------
    values : array of shape [sets, H]
        A metric of each head on each set, higher = better.
    level : float
        Confidence level of the tests, in (0, 1).

    Raises
    ------
    DataError
        If there are fewer than three sets or three heads.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 2 or min(values.shape) < 3:
        raise DataError(f"tests of ranks need at least three sets and three heads, got {list(values.shape)}")
    b, k = values.shape
    ranks = rankdata(-values, axis=1)
    sums = ranks.sum(0)
    with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # scipy warns if all values are tied
        statistic, p = friedmanchisquare(*values.T)
    if not np.isfinite(statistic):
        statistic, p = 0.0, 1.0
    degrees = (b - 1) * (k - 1)
    variance = max(2 * (b * np.sum(ranks**2) - np.sum(sums**2)) / degrees, 0.0)
    differences = np.abs(sums[:, None] - sums)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(differences > 0, differences / np.sqrt(variance), 0)
    pairwise, upper = np.ones((k, k)), np.triu_indices(k, 1)
    pairwise[upper] = holm(2 * stdtr(degrees, -t[upper]))
    pairwise = np.minimum(pairwise, pairwise.T)
    differ = pairwise < 1 - level if p < 1 - level else np.zeros((k, k), bool)
    return Ranking(
        sums / b,
        float(statistic),
        float(p),
        pairwise,
        cliques(np.argsort(sums, kind="stable").tolist(), differ),
    )


def holm(p_values: ArrayLike) -> Float[np.ndarray, "n"]:
    """Correct p-values by Holm's step-down method (1979), which controls the family-wise error rate.

    Parameters
    ----------
    p_values : array of shape [n]

    Returns
    -------
    ndarray of shape [n]
        In the same order, at most 1.
    """
    p_values = np.asarray(p_values, np.float64)
    order = np.argsort(p_values, kind="stable")
    corrected = np.empty_like(p_values)
    corrected[order] = np.maximum.accumulate(p_values[order] * np.arange(len(p_values), 0, -1))
    return np.minimum(corrected, 1.0)


def cliques(order: Sequence[int], differ: Bool[np.ndarray, "H H"]) -> list[list[int]]:
    """Return the maximal runs of heads, in the given order, in which no two differ.

    Parameters
    ----------
    order : sequence of int
        Positions of the heads, best first.
    differ : array of shape [H, H]
        Which heads differ; symmetric.

    Examples
    --------
    >>> cliques([2, 0, 1], np.array([[0, 0, 0], [0, 0, 1], [0, 1, 0]], bool))
    [[2, 0], [0, 1]]
    """
    runs: list[list[int]] = []
    stop = 0
    for start in range(len(order)):
        reached = stop
        while stop < len(order) and not differ[order[stop], list(order[start:stop])].any():
            stop += 1
        if stop > reached:
            runs.append([int(position) for position in order[start:stop]])
    return runs
