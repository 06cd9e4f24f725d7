"""Tables: rows of numbers with class labels, and dealing their rows out."""

from __future__ import annotations

__all__ = ["Table", "assign_parts", "separate_classes"]

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from featood.errors import DataError, UsageError


@dataclass(frozen=True, eq=False)
class Table:
    """N rows of D numbers.

    Attributes
    ----------
    features : array of shape [N, D]
        Finite float64.
    labels : array of shape [N], optional
        Classes as int64, 0 to C-1; negative where a row is of none of them.
    ids : array of shape [N], optional
        What each row is called; its number, where not given.
    columns : tuple of str
        Names of the D columns.
    classes : tuple of str
        Names of the C classes.
    left_out : tuple of str
        Columns of the file that are neither features nor labels.
    notes : tuple of str
        What a reader should know: what was left out or converted, columns that are constant.
    """

    features: np.ndarray
    labels: np.ndarray | None = None
    ids: np.ndarray | None = None
    columns: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

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
        """Return the same rows as out-of-distribution ones: of no class."""
        return replace(self, labels=np.full(len(self), -1), classes=())

    def with_columns(self, columns: Sequence[str]) -> Table:
        """Put the columns into the order of another table's.

        Raises
        ------
        DataError
            When they are not the same columns.
        """
        if missing := [name for name in columns if name not in self.columns]:
            raise DataError(f"the table has no column {missing[0]!r}, which the rows in the cache have")
        if extra := [name for name in self.columns if name not in columns]:
            raise DataError(f"the table has a column {extra[0]!r} that the rows in the cache do not have")
        order = [self.columns.index(name) for name in columns]
        return replace(self, features=self.features[:, order], columns=tuple(columns))

    def with_classes(self, classes: Sequence[str]) -> Table:
        """Give the classes the numbers they have in another table.

        Raises
        ------
        DataError
            When a row is of a class that the other table does not have.
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
    """Part the rows of some classes from the others.

    Returns
    -------
    inside, outside : Table
        The other rows, their classes numbered anew in their old order; and those of `classes`, of no class.

    Raises
    ------
    UsageError
        When there is no such class, or no other.
    """
    if table.labels is None:
        raise UsageError("classes are held out by their labels; name the column with --label")
    for name in classes:
        if name not in table.classes:
            near = difflib.get_close_matches(name, table.classes, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(table.classes)}"
            raise UsageError(f"no class is called {name!r}: {hint}")
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
    """Deal rows out at random, each class in the same shares.

    Parameters
    ----------
    rows : int
        Number of rows N.
    labels : array of shape [N], optional
        Classes, from 0; without them the rows count as one class.
    shares : sequence of float
        Size of each part; they need not add up to one.
    generator : numpy.random.Generator
        Deals the rows.

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
