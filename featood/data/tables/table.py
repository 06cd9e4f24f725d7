"""Tables: rows of numbers with class labels, and splits of their rows."""

from __future__ import annotations

__all__ = ["Table", "assign_parts", "separate_classes"]

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from featood.errors import DataError, UsageError


@dataclass(frozen=True, eq=False)
class Table:
    """N rows of D numbers, or of D tokens.

    Attributes
    ----------
    features : array of shape [N, D]
        Finite float64; tokens as uint8, from 0.
    labels : array of shape [N], optional
        Classes as int64, 0 to C-1; negative for rows of no class.
    ids : array of shape [N], optional
        Name of each row; its number by default.
    columns : tuple of str
        Names of the D columns.
    classes : tuple of str
        Names of the C classes.
    left_out : tuple of str
        Columns of the file that are neither features nor labels.
    notes : tuple of str
        Notes for the user: what was left out or converted, constant columns.
    alphabet : str
        Letters of tokens, by their numbers; empty if the rows are not tokens.
    """

    features: np.ndarray
    labels: np.ndarray | None = None
    ids: np.ndarray | None = None
    columns: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    alphabet: str = ""

    def __post_init__(self) -> None:
        if self.ids is None:
            object.__setattr__(self, "ids", np.arange(len(self.features)))

    def __len__(self) -> int:
        return len(self.features)

    def take(self, rows: np.ndarray) -> Table:
        """Keep some rows, by mask or index."""
        labels = None if self.labels is None else self.labels[rows]
        assert self.ids is not None
        return replace(self, features=self.features[rows], labels=labels, ids=self.ids[rows])

    def outside(self) -> Table:
        """Return the same rows as out-of-distribution rows, without a class."""
        return replace(self, labels=np.full(len(self), -1), classes=())

    def with_columns(self, columns: Sequence[str]) -> Table:
        """Reorder the columns to match another table.

        Raises
        ------
        DataError
            If they are not the same columns.
        """
        if missing := [name for name in columns if name not in self.columns]:
            raise DataError(f"the table has no column {missing[0]!r}, which the rows in the cache have")
        if extra := [name for name in self.columns if name not in columns]:
            raise DataError(f"the table has a column {extra[0]!r} that the rows in the cache do not have")
        order = [self.columns.index(name) for name in columns]
        return replace(self, features=self.features[:, order], columns=tuple(columns))

    def with_classes(self, classes: Sequence[str]) -> Table:
        """Renumber the classes to match another table.

        Raises
        ------
        DataError
            If this table has a class that the other does not have.
        """
        if self.labels is None:
            return replace(self, classes=tuple(classes))
        if unknown := [name for name in self.classes if name not in classes]:
            raise DataError(
                f"the rows in the cache have no class {unknown[0]!r}; they have {', '.join(classes)}"
            )
        places = np.array([*map(classes.index, self.classes), -1])
        return replace(self, labels=places[self.labels], classes=tuple(classes))


def separate_classes(table: Table, classes: Sequence[str]) -> tuple[Table, Table]:
    """Separate the rows of some classes from the others.

    Returns
    -------
    inside, outside : Table
        The other rows, their classes renumbered in the same order; and the rows of `classes`, without a class.

    Raises
    ------
    UsageError
        If there is no such class, or no class is left.
    """
    if table.labels is None:
        raise UsageError("holding out classes needs labels; name their column with --label")
    for name in classes:
        if name not in table.classes:
            near = difflib.get_close_matches(name, table.classes, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(table.classes)}"
            raise UsageError(f"no class is named {name!r}: {hint}")
    kept = np.array([name not in classes for name in table.classes])
    if not kept.any():
        raise UsageError("every class is held out, so no in-distribution rows are left")
    renumbered = np.append(np.where(kept, np.cumsum(kept) - 1, -1), -1)[table.labels]
    inside = replace(
        table.take(renumbered >= 0),
        labels=renumbered[renumbered >= 0],
        classes=tuple(name for name in table.classes if name not in classes),
    )
    return inside, table.take(renumbered < 0).outside()


def assign_parts(
    rows: int, labels: np.ndarray | None, shares: Sequence[float], generator: np.random.Generator
) -> np.ndarray:
    """Assign rows to parts at random, stratified by class.

    Parameters
    ----------
    rows : int
        Number of rows N.
    labels : array of shape [N], optional
        Classes, from 0; None for a single class.
    shares : sequence of float
        Relative size of each part; they need not sum to one.
    generator : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    ndarray
        Part of each row ``[N]``.
    """
    labels = np.zeros(rows, np.int64) if labels is None else labels
    shuffled = generator.permutation(rows)
    order = shuffled[np.argsort(labels[shuffled], kind="stable")]
    counts = np.bincount(labels)
    first = np.cumsum(counts) - counts
    place = np.empty(rows)
    place[order] = (np.arange(rows) - first[labels[order]] + 0.5) / counts[labels[order]]
    return np.searchsorted(np.cumsum(shares) / np.sum(shares), place, side="right")
