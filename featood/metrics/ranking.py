"""Comparing several heads over several sets: Friedman's test of their ranks, what follows it, and Holm's correction."""

from __future__ import annotations

__all__ = ["Ranking", "holm", "rank_heads"]

import warnings
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike
from scipy.special import stdtr
from scipy.stats import friedmanchisquare, rankdata

from featood.errors import DataError


class Ranking(NamedTuple):
    """Ranks of H heads over several sets, and which of them differ."""

    mean_ranks: Float[np.ndarray, "H"]
    """``[H]``; 1 is the best on every set."""
    statistic: float
    """Friedman's chi-squared, corrected for ties."""
    p: float
    """That of Friedman's test: of heads as good as each other."""
    pairwise: Float[np.ndarray, "H H"]
    """``[H, H]`` p-values of Conover's test of each pair, after Holm's correction; 1 on the diagonal."""
    cliques: list[list[int]]
    """Largest groups of heads of which no two differ, by mean rank; heads that differ from all others stand alone."""


def rank_heads(values: ArrayLike, level: float = 0.95) -> Ranking:
    """Test whether heads differ over sets by their ranks on each, and which do.

    Friedman's test asks whether any differ at all. Where it says so, each pair is tested by the sums of their ranks
    (Conover, 1999, section 5.8), ``t = |R_i - R_j| / sqrt(2 (b A - sum R^2) / ((b - 1)(k - 1)))`` for b sets and k
    heads, A being the sum of all squared ranks, with ``(b - 1)(k - 1)`` degrees of freedom; Holm's correction allows
    for the number of pairs. Where it does not, all heads are one clique (Demsar, 2006).

    Sets are what is sampled here, so few of them can tell little, however many rows they have. Where the heads come in
    the same order on every set, the variance of t is 0, and every pair of different ranks counts as different.

    Parameters
    ----------
    values : array of shape [sets, H]
        A metric of each head on each set, higher = better.
    level : float
        Confidence with which heads are said to differ, in (0, 1).

    Raises
    ------
    DataError
        If there are fewer than three sets or three heads.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 2 or min(values.shape) < 3:
        raise DataError(
            f"ranks are tested over three sets and three heads at least, got {list(values.shape)}"
        )
    b, k = values.shape
    ranks = rankdata(-values, axis=1)
    sums = ranks.sum(0)
    with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # of scipy, where all are tied
        statistic, p = friedmanchisquare(*values.T)
    if not np.isfinite(statistic):
        statistic, p = 0.0, 1.0
    freedom = (b - 1) * (k - 1)
    spread = max(2 * (b * np.sum(ranks**2) - np.sum(sums**2)) / freedom, 0.0)
    apart = np.abs(sums[:, None] - sums)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(apart > 0, apart / np.sqrt(spread), 0)
    pairwise, upper = np.ones((k, k)), np.triu_indices(k, 1)
    pairwise[upper] = holm(2 * stdtr(freedom, -t[upper]))
    pairwise = np.minimum(pairwise, pairwise.T)
    differ = pairwise < 1 - level if p < 1 - level else np.zeros((k, k), bool)
    return Ranking(sums / b, float(statistic), float(p), pairwise, _cliques(sums, differ))


def holm(p_values: ArrayLike) -> Float[np.ndarray, "n"]:
    """Correct p-values for their number by Holm's step-down method (1979): any false alarm among all is that rare.

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


def _cliques(sums: Float[np.ndarray, "H"], differ: Bool[np.ndarray, "H H"]) -> list[list[int]]:
    """Find the largest runs in the order of the ranks whose ends do not differ: t grows with the distance of ranks."""
    order = np.argsort(sums, kind="stable")
    runs, reached = [], -1
    for start in range(len(order)):
        alike = np.flatnonzero(~differ[order[start], order])
        last = int(alike.max())
        if last > reached:
            runs.append(order[start : last + 1].tolist())
            reached = last
    return runs
