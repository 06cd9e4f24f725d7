"""Bootstrap intervals of the detection metrics, and of the difference between two heads."""

from __future__ import annotations

__all__ = ["Interval", "bootstrap_intervals", "paired_difference"]

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from featood.errors import DataError, UsageError
from featood.metrics.counts import ScoreCounts, rank_scores
from featood.metrics.detection import METRICS

_CELLS = 2**21  # rows resampled at once, which bounds the memory


class Interval(NamedTuple):
    """A value and the ends of its interval."""

    estimate: float
    low: float
    high: float


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
    return _intervals([(id_scores, ood_scores)], metrics, n, level, generator)


def paired_difference(
    first: tuple[ArrayLike, ArrayLike],
    second: tuple[ArrayLike, ArrayLike],
    metrics: Sequence[str] = tuple(METRICS),
    n: int = 1000,
    level: float = 0.95,
    *,
    generator: np.random.Generator,
) -> dict[str, Interval]:
    """Bootstrap intervals of metric(first) - metric(second) for two heads scored on the same rows.

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
    return _intervals([first, second], metrics, n, level, generator)


def _intervals(
    heads: Sequence[tuple[ArrayLike, ArrayLike]],
    metrics: Sequence[str],
    n: int,
    level: float,
    generator: np.random.Generator,
) -> dict[str, Interval]:
    if unknown := [name for name in metrics if name not in METRICS]:
        raise UsageError(f"unknown metric {unknown[0]!r}; choose from {', '.join(METRICS)}")
    if n < 1 or not 0 < level < 1:
        raise UsageError(f"bootstrap needs n >= 1 and 0 < level < 1, got n={n}, level={level}")
    ranked = [rank_scores(*head) for head in heads]
    sizes = {(len(id_ranks), len(ood_ranks)) for _, id_ranks, ood_ranks in ranked}
    if len(sizes) > 1:
        raise DataError(f"a paired comparison needs the same rows for both heads, got {sorted(sizes)}")

    [(n_id, n_ood)] = sizes
    everything = _differences(ranked, np.arange(n_id)[None], np.arange(n_ood)[None], metrics)
    resampled = []
    step = max(1, _CELLS // (n_id + n_ood))
    for start in range(0, n, step):
        size = min(step, n - start)
        id_rows = generator.integers(n_id, size=(size, n_id))
        ood_rows = generator.integers(n_ood, size=(size, n_ood))
        resampled.append(_differences(ranked, id_rows, ood_rows, metrics))
    low, high = np.quantile(np.concatenate(resampled, axis=1), [(1 - level) / 2, (1 + level) / 2], axis=1)
    ends = np.stack([everything[:, 0], low, high], axis=1).tolist()
    return {name: Interval(*row) for name, row in zip(metrics, ends, strict=True)}


def _differences(
    ranked: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]],
    id_rows: np.ndarray,
    ood_rows: np.ndarray,
    metrics: Sequence[str],
) -> np.ndarray:
    """Metrics on the chosen rows, [len(metrics), B]: those of the one head, or first minus second."""
    results = []
    for values, id_ranks, ood_ranks in ranked:
        counts = ScoreCounts(
            values, _tally(id_ranks[id_rows], len(values)), _tally(ood_ranks[ood_rows], len(values))
        )
        results.append(np.stack([METRICS[name](counts) for name in metrics]))
    return results[0] - results[1] if len(results) == 2 else results[0]


def _tally(ranks: np.ndarray, size: int) -> np.ndarray:
    """Count each row of `ranks` [B, N] on its own: [B, size]."""
    offsets = size * np.arange(len(ranks))[:, None]
    return np.bincount((ranks + offsets).ravel(), minlength=size * len(ranks)).reshape(-1, size)
