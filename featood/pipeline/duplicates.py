"""Near duplicates of training rows in other sets of the cache, by the cosine of their features."""

from __future__ import annotations

__all__ = ["SHARE", "Duplicates", "Pair", "find_duplicates"]

import dataclasses
import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from featood.cache.feature_set import ROWS, FeatureSet
from featood.errors import DataError, Mismatch, UsageError
from featood.heads.base.rows import finite_rows
from featood.heads.base.sampling import stacked
from featood.numerics.banks import Bank
from featood.numerics.neighbours import Index, build_index, search
from featood.numerics.spaces import unit

SHARE = 0.001
"""Share of the training rows that are nearer to another than the default threshold."""
ROUNDING = 1e-3
"""Least default threshold, as the distance of rows of unit length: equal rows may differ so much in 16 bits."""
SAMPLE = 10_000
"""Largest number of training rows from which the default threshold is computed."""


class Pair(NamedTuple):
    """A row and the training row that is nearest to it."""

    id: str
    train_id: str
    cosine: float


@dataclasses.dataclass(frozen=True)
class Duplicates:
    """The near duplicates of training rows in a set."""

    name: str
    """``backbone/dataset/split``."""
    rows: int
    pairs: tuple[Pair, ...]
    """One for each row at least as near as the threshold, the nearest first."""
    largest: float
    """Largest cosine of a row of the set with a training row."""


def find_duplicates(
    train: FeatureSet,
    others: Iterable[FeatureSet],
    cosine: float | None = None,
    *,
    share: float = SHARE,
    feature: str = "",
) -> tuple[float, list[Duplicates]]:
    """Find rows that are nearer to a training row than training rows are to each other.

    Whether two images are duplicates is not in their features: rows above the threshold are candidates. A network
    that maps each class nearly to a point makes all rows of a class near, so the default threshold is relative to that.

    Parameters
    ----------
    train : FeatureSet
        N rows.
    others : iterable of FeatureSet
        Sets of the same backbone.
    cosine : float, optional
        Smallest cosine of near duplicates. By default, that above which a share of the training rows, of at most
        10,000 evenly spaced ones, have their nearest other training row.
    share : float
        That share, in (0, 1).
    feature : str
        Feature column; by default the classifier's input.

    Returns
    -------
    cosine : float
        The threshold.
    found : list of Duplicates
        In the order of `others`.

    Raises
    ------
    UsageError
        If a set has no such column, or the threshold is no cosine.
    DataError
        If a value is not finite, or there are no two training rows.
    Mismatch
        If a set has features of another backbone.
    """
    if cosine is not None and not -1 <= cosine <= 1:
        raise UsageError(f"a cosine is between -1 and 1, not {cosine}")
    blocks = list(_blocks(train, feature))
    if len(train) < 2:
        raise DataError(f"{train.name} has {len(train)} rows; near duplicates need two")
    rows = stacked((block.feature(feature)[:] for block in blocks), len(train))
    index = build_index(Bank(rows, lambda part, _: unit(part.float())))
    limit = max(ROUNDING, _usual_distance(index, share)) if cosine is None else math.sqrt(2 - 2 * cosine)
    ids = _ids(train)
    return _cosine(limit), [_in_set(index, ids, train, other, feature, limit) for other in others]


def _usual_distance(index: Index, share: float) -> float:
    """Return the distance below which a share of the rows have their nearest other row."""
    count = len(index.rows)
    chosen = torch.from_numpy(np.linspace(0, count - 1, min(count, SAMPLE)).astype(np.int64))
    nearest = []
    for numbers in chosen.split(ROWS):
        found = search(index, index.rows.index_select(0, numbers), 2)
        # with an equal row, a row may come second in its own search, or not at all
        itself = found.rows[:, 0] == numbers
        nearest.append(torch.where(itself, found.values[:, 1], found.values[:, 0]))
    return float(np.quantile(torch.cat(nearest).numpy(), share))


def _in_set(
    index: Index, ids: list[str], train: FeatureSet, other: FeatureSet, feature: str, limit: float
) -> Duplicates:
    if other.fingerprint != train.fingerprint:
        raise Mismatch(f"the features of {other.name} are of another backbone than those of {train.name}")
    if not len(other):
        return Duplicates(other.name, 0, (), math.nan)
    values, rows = (torch.cat(parts) for parts in zip(*_nearest(index, other, feature), strict=True))
    near = torch.nonzero(values <= limit)[:, 0]
    near = near[values[near].argsort(stable=True)]
    names = _ids(other)
    pairs = tuple(Pair(names[row], ids[rows[row]], _cosine(float(values[row]))) for row in near.tolist())
    return Duplicates(other.name, len(other), pairs, _cosine(float(values.min())))


def _nearest(index: Index, other: FeatureSet, feature: str) -> Iterator[tuple[Tensor, Tensor]]:
    for block in _blocks(other, feature):
        found = search(index, unit(block.feature(feature)[:].float()), 1)
        yield found.values[:, 0], found.rows[:, 0]


def _blocks(features: FeatureSet, feature: str) -> Iterator[FeatureSet]:
    for block in features.select(feature or features.main).blocks():
        if not bool(finite_rows(block).all()):
            raise DataError(f"{features.name} has NaN or infinite features; fix them first")
        yield block


def _ids(features: FeatureSet) -> list[str]:
    return [str(name) for name in (range(len(features)) if features.ids is None else features.ids[:])]


def _cosine(distance: float) -> float:
    """Return the cosine of two rows of unit length at a distance."""
    return 1 - distance**2 / 2
