"""The matrix of heads and sets: its columns, values and shades."""

from __future__ import annotations

__all__ = ["Matrix", "MatrixColumn", "head_matrix", "shades_of"]

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from featood.report.rows import METRIC_COLUMNS, OPEN_SET_COLUMNS, MetricColumn, Row, mean_rows

GROUPS = ("near", "far")


class MatrixColumn(NamedTuple):
    """One set, or the mean over several."""

    title: str
    sets: tuple[str, ...]
    group: str
    """``near`` or ``far``; ``mean`` for the mean over all sets; empty for a set of no group."""
    is_mean: bool


class Matrix(NamedTuple):
    """Metrics of heads by column, with shades from 0 (poor) to 100 (best)."""

    metrics: tuple[MetricColumn, ...]
    columns: list[MatrixColumn]
    rows: list[Row]
    """One row per head, its mean over the sets, the best AUROC first."""
    cells: list[list[Row | None]]
    """Result rows by head and column; None where a head was not scored."""
    shades: dict[str, list[list[int | None]]]
    """Shades by metric, head and column."""
    ends: dict[str, tuple[float, float]]
    """The values with shades 0 and 100, by metric."""

    @property
    def drawn(self) -> list[str]:
        """Label of each head in the scores; of several seeds, the first."""
        cells = [next(cell for cell in line if cell and "sets" not in cell) for line in self.cells]
        return [cell["labels"][0] if "labels" in cell else cell["head"] for cell in cells]


def head_matrix(
    rows: Sequence[Row], groups: Mapping[str, Sequence[str]], intervals: Iterable[Row] = ()
) -> Matrix:
    """Arrange result rows as a matrix.

    Parameters
    ----------
    rows : sequence of dict
        Result rows, one per (head, OOD set).
    groups : mapping of str to sequence of str
        Names of the ``near`` and ``far`` sets, as far as known.
    intervals : iterable of dict
        See :func:`featood.report.mean_rows`.

    Returns
    -------
    Matrix
    """
    sets = list(dict.fromkeys(row["ood"] for row in rows))
    found = {name: [one for one in sets if one in groups.get(name, ())] for name in GROUPS}
    columns = [MatrixColumn("mean", tuple(sets), "mean", True)] if len(sets) > 1 else []
    if all(found.values()):
        columns += [MatrixColumn(name, tuple(found[name]), name, True) for name in GROUPS if found[name][1:]]
    group_of = {one: name for name, members in found.items() for one in members}
    ordered = sorted(sets, key=lambda one: [*GROUPS, ""].index(group_of.get(one, "")))
    columns += [MatrixColumn(one, (one,), group_of.get(one, ""), False) for one in ordered]
    means = sorted(mean_rows(rows, intervals), key=lambda row: -row.get("auroc", 0))
    by_cell = {(row["head"], row["ood"]): row for row in rows}
    cells = []
    for mean in means:
        line: list[Row | None] = []
        for column in columns:
            if not column.is_mean:
                line.append(by_cell.get((mean["head"], column.title)))
            elif column.group == "mean":
                line.append(mean if len(mean["sets"]) == len(sets) else None)
            else:
                part = [by_cell.get((mean["head"], one)) for one in column.sets]
                line.append(None if None in part else mean_rows(filter(None, part))[0])
        cells.append(line)
    every = (*METRIC_COLUMNS, *OPEN_SET_COLUMNS)
    metrics = tuple(column for column in every if any(column.key in row for row in rows))
    shades, ends = {}, {}
    for metric in metrics:
        shades[metric.key], ends[metric.key] = _shades(cells, metric)
    return Matrix(metrics, columns, list(means), cells, shades, ends)


def shades_of(values: np.ndarray, higher_is_better: bool) -> tuple[np.ndarray, tuple[float, float]]:
    """Return shades from 0 (poor) to 100 (best), and the values that get these shades.

    Shades are linear from the 20th percentile of the values, or worse, to the best: a few poor heads would otherwise
    make all others look alike. Missing values (NaN) have no shade.
    """
    goodness = values if higher_is_better else -values
    if np.isnan(values).all():
        return np.full(values.shape, np.nan), (0.0, 1.0)
    low, high = float(np.nanquantile(goodness, 0.2)), float(np.nanmax(goodness))
    shades = 100 * np.clip((goodness - low) / (high - low or 1), 0, 1)
    return shades, (low, high) if higher_is_better else (-low, -high)


def _shades(
    cells: list[list[Row | None]], metric: MetricColumn
) -> tuple[list[list[int | None]], tuple[float, float]]:
    values = np.array([[_number(cell, metric.key) for cell in line] for line in cells])
    shades, ends = shades_of(values, metric.higher_is_better)
    return [[None if np.isnan(one) else round(one) for one in line] for line in shades.tolist()], ends


def _number(cell: Row | None, key: str) -> float:
    value = None if cell is None else cell.get(key)
    return np.nan if value is None else float(value)
