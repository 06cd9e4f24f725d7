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

_CELLS = 2**21  # rows per batch of resamples, limits the memory


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

    ID and OOD rows are resampled with replacement, independently.

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
        Generator for the resamples.

    Returns
    -------
    dict of Interval
        The value on all rows and the bounds of the interval, by name.

    Raises
    ------
    DataError
        If either side is empty or contains NaN.
    UsageError
        If a name, `n` or `level` is invalid.
    """
    _check(metrics, n, level)
    id_generator, ood_generator = generator.spawn(2)
    draws = bootstrap_draws(
        id_scores, ood_scores, metrics, n, id_generator=id_generator, ood_generator=ood_generator
    )
    estimates = _measure(*_ranked(id_scores, ood_scores), metrics)[:, 0]
    low, high = percentiles(draws, level)
    return {
        name: Interval(*bounds)
        for name, *bounds in zip(metrics, estimates.tolist(), low.tolist(), high.tolist(), strict=True)
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

    Each resample has the same rows for both heads, so variation that both heads share cancels. The heads differ at the
    given level if the interval does not contain 0.

    Parameters
    ----------
    first, second : tuple of two arrays, shape [N] and [M]
        ID and OOD scores of each head, for the same rows in the same order.
    metrics, n, level, generator
        As for `bootstrap_intervals`.

    Raises
    ------
    DataError
        If the heads have different numbers of rows, or scores are empty or NaN.
    UsageError
        If a name, `n` or `level` is invalid.
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
    differences = zip(metrics, estimates[0] - estimates[1], draws[0] - draws[1], strict=True)
    return {
        name: bootstrap_difference(float(estimate), values, level) for name, estimate, values in differences
    }


def bootstrap_draws(
    id_scores: ArrayLike,
    ood_scores: ArrayLike,
    metrics: Sequence[str] = tuple(METRICS),
    n: int = 1000,
    *,
    id_generator: np.random.Generator,
    ood_generator: np.random.Generator,
) -> Float[np.ndarray, "metrics {n}"]:
    """Return the metrics of every resample, from which intervals are computed.

    Generators in the same state draw the same rows. Draws of several heads with copies of the same two generators are
    therefore paired, and draws of several sets with copies of `id_generator` have the same ID rows.

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
    """Return the bounds ``[...]`` of the central share `level` of resamples ``[..., n]``."""
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=-1)
    return np.asarray(low), np.asarray(high)


def bootstrap_difference(estimate: float, draws: Float[np.ndarray, "n"], level: float) -> Difference:
    """Return an interval and a test of a difference, given its resamples ``[n]``.

    The interval has their percentiles as bounds. The test is two-sided and assumes a normal distribution with their
    standard deviation; the share of resamples beyond 0 has a smallest p of 2 / (n + 1), which is too large to be
    significant after a correction for many pairs. If all resamples are equal and not 0, p is 2 / (n + 1).
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
    """Rank all rows as a single resample, ``[1, N]`` and ``[1, M]``."""
    values, id_ranks, ood_ranks = rank_scores(id_scores, ood_scores)
    return values, id_ranks[None], ood_ranks[None]


def _measure(
    values: Float[np.ndarray, "K"],
    id_ranks: Int[np.ndarray, "B N"],
    ood_ranks: Int[np.ndarray, "B M"],
    metrics: Sequence[str],
) -> Float[np.ndarray, "metrics B"]:
    """Compute the metrics of each resample, ``[metrics, B]``."""
    counts = ScoreCounts(values, _bincount(id_ranks, len(values)), _bincount(ood_ranks, len(values)))
    return np.stack([METRICS[name](counts) for name in metrics])


def _check(metrics: Sequence[str], n: int, level: float = 0.5) -> None:
    if unknown := [name for name in metrics if name not in METRICS]:
        raise UsageError(f"unknown metric {unknown[0]!r}; choose from {', '.join(METRICS)}")
    if n < 1 or not 0 < level < 1:
        raise UsageError(f"bootstrap needs n >= 1 and 0 < level < 1, got n={n}, level={level}")


def _bincount(ranks: Int[np.ndarray, "B N"], size: int) -> Int[np.ndarray, "B {size}"]:
    """Count the values in each row of `ranks` [B, N]: [B, size]."""
    offsets = size * np.arange(len(ranks))[:, None]
    return np.bincount((ranks + offsets).ravel(), minlength=size * len(ranks)).reshape(-1, size)
