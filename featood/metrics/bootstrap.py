"""Bootstrap intervals of the detection metrics, and of the difference between two heads."""

from __future__ import annotations

__all__ = [
    "bootstrap_difference",
    "bootstrap_draws",
    "bootstrap_intervals",
    "paired_difference",
    "percentiles",
]

import copy
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from scipy.special import ndtr

from featood.errors import DataError, UsageError
from featood.metrics.counts import ScoreCounts, rank_scores
from featood.metrics.detection import METRICS
from featood.metrics.intervals import Difference, Interval

_CELLS = 2**21  # rows resampled at once, which bounds the memory


def bootstrap_intervals(
    id_scores: ArrayLike,
    ood_scores: ArrayLike,
    metrics: Sequence[str] = tuple(METRICS),
    n: int = 1000,
    level: float = 0.95,
    *,
    generator: np.random.Generator,
) -> dict[str, Interval]:
    """Percentile bootstrap intervals of detection metrics (Efron, 1979).

    ID and OOD rows are resampled with replacement, independently of each other.

    Parameters
    ----------
    id_scores, ood_scores : array of shape [N] and [M]
        Higher = more out-of-distribution.
    metrics : sequence of str
        Names from `featood.metrics.METRICS`.
    n : int
        Number of resamples.
    level : float
        Coverage of the interval, in (0, 1).
    generator : numpy.random.Generator
        Source of the resamples.

    Returns
    -------
    dict of Interval
        For each name the value on all rows and the ends of its interval.

    Raises
    ------
    DataError
        If either side is empty or holds NaN.
    UsageError
        If a name, `n` or `level` is not valid.
    """
    _check(metrics, n, level)
    id_generator, ood_generator = generator.spawn(2)
    draws = bootstrap_draws(
        id_scores, ood_scores, metrics, n, id_generator=id_generator, ood_generator=ood_generator
    )
    estimates = _measure(*_ranked(id_scores, ood_scores), metrics)[:, 0]
    low, high = percentiles(draws, level)
    return {
        name: Interval(*ends)
        for name, *ends in zip(metrics, estimates.tolist(), low.tolist(), high.tolist(), strict=True)
    }


def paired_difference(
    first: tuple[ArrayLike, ArrayLike],
    second: tuple[ArrayLike, ArrayLike],
    metrics: Sequence[str] = tuple(METRICS),
    n: int = 1000,
    level: float = 0.95,
    *,
    generator: np.random.Generator,
) -> dict[str, Difference]:
    """Bootstrap intervals and tests of metric(first) - metric(second) for two heads scored on the same rows.

    Each resample takes the same rows for both heads, so what makes rows easy or hard for both cancels.
    An interval without 0 says that the heads differ at the given level.

    Parameters
    ----------
    first, second : tuple of two arrays, shape [N] and [M]
        ID and OOD scores of each head, row by row on the same inputs.
    metrics, n, level, generator
        As for `bootstrap_intervals`.

    Raises
    ------
    DataError
        If the heads have different numbers of rows, or scores are empty or NaN.
    UsageError
        If a name, `n` or `level` is not valid.
    """
    _check(metrics, n, level)
    sizes = {(len(np.asarray(id_scores)), len(np.asarray(ood))) for id_scores, ood in (first, second)}
    if len(sizes) > 1:
        raise DataError(f"a paired comparison needs the same rows for both heads, got {sorted(sizes)}")
    generators = generator.spawn(2)
    draws, estimates = [], []
    for head in (first, second):
        id_generator, ood_generator = copy.deepcopy(generators)
        draws.append(
            bootstrap_draws(*head, metrics, n, id_generator=id_generator, ood_generator=ood_generator)
        )
        estimates.append(_measure(*_ranked(*head), metrics)[:, 0])
    between = zip(metrics, estimates[0] - estimates[1], draws[0] - draws[1], strict=True)
    return {name: bootstrap_difference(float(estimate), found, level) for name, estimate, found in between}


def bootstrap_draws(
    id_scores: ArrayLike,
    ood_scores: ArrayLike,
    metrics: Sequence[str] = tuple(METRICS),
    n: int = 1000,
    *,
    id_generator: np.random.Generator,
    ood_generator: np.random.Generator,
) -> Float[np.ndarray, "metrics {n}"]:
    """Return the metrics of every resample, from which the intervals follow.

    Equal generators take equal rows. So heads that are given copies of the same two can be compared pair by
    pair, and sets that share their ID rows can share the resamples of these, resample by resample.

    Returns
    -------
    ndarray of shape [metrics, n]

    Raises
    ------
    DataError, UsageError
        As `bootstrap_intervals`.
    """
    _check(metrics, n)
    values, id_ranks, ood_ranks = rank_scores(id_scores, ood_scores)
    step = max(1, _CELLS // (len(id_ranks) + len(ood_ranks)))
    draws = []
    for start in range(0, n, step):
        size = min(step, n - start)
        id_rows = id_generator.integers(len(id_ranks), size=(size, len(id_ranks)))
        ood_rows = ood_generator.integers(len(ood_ranks), size=(size, len(ood_ranks)))
        draws.append(_measure(values, id_ranks[id_rows], ood_ranks[ood_rows], metrics))
    return np.concatenate(draws, axis=1)


def percentiles(
    draws: Float[np.ndarray, "*batch n"], level: float
) -> tuple[Float[np.ndarray, "*batch"], Float[np.ndarray, "*batch"]]:
    """Return the ends of the central share `level` of resamples ``[..., n]``, each ``[...]``."""
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=-1)
    return np.asarray(low), np.asarray(high)


def bootstrap_difference(estimate: float, draws: Float[np.ndarray, "n"], level: float) -> Difference:
    """Make an interval and a test of the resamples ``[n]`` of a difference.

    The interval is that of their percentiles. The test is two-sided and takes the difference for normal with their
    deviation: counting those beyond 0 could never give a p below 2 / (n + 1), which no correction for many pairs
    survives. Where all are equal, and not 0, that is what p is.
    """
    low, high = percentiles(draws, level)
    if error := float(np.std(draws, ddof=1)) if len(draws) > 1 else 0.0:
        p = 2 * float(ndtr(-abs(estimate) / error))
    else:
        p = 2 / (len(draws) + 1) if estimate else 1.0
    return Difference(estimate, float(low), float(high), p)


def _ranked(
    id_scores: ArrayLike, ood_scores: ArrayLike
) -> tuple[Float[np.ndarray, "K"], Int[np.ndarray, "1 N"], Int[np.ndarray, "1 M"]]:
    """Rank all rows as the only resample, ``[1, N]`` and ``[1, M]``."""
    values, id_ranks, ood_ranks = rank_scores(id_scores, ood_scores)
    return values, id_ranks[None], ood_ranks[None]


def _measure(
    values: Float[np.ndarray, "K"],
    id_ranks: Int[np.ndarray, "B N"],
    ood_ranks: Int[np.ndarray, "B M"],
    metrics: Sequence[str],
) -> Float[np.ndarray, "metrics B"]:
    """Metrics of each resample, ``[metrics, B]``."""
    counts = ScoreCounts(values, _tally(id_ranks, len(values)), _tally(ood_ranks, len(values)))
    return np.stack([METRICS[name](counts) for name in metrics])


def _check(metrics: Sequence[str], n: int, level: float = 0.5) -> None:
    if unknown := [name for name in metrics if name not in METRICS]:
        raise UsageError(f"unknown metric {unknown[0]!r}; choose from {', '.join(METRICS)}")
    if n < 1 or not 0 < level < 1:
        raise UsageError(f"bootstrap needs n >= 1 and 0 < level < 1, got n={n}, level={level}")


def _tally(ranks: Int[np.ndarray, "B N"], size: int) -> Int[np.ndarray, "B {size}"]:
    """Count each row of `ranks` [B, N] on its own: [B, size]."""
    offsets = size * np.arange(len(ranks))[:, None]
    return np.bincount((ranks + offsets).ravel(), minlength=size * len(ranks)).reshape(-1, size)
