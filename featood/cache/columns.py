"""Columns of a FeatureSet that read their rows on demand: stored, selected from another column, or concatenated."""

from __future__ import annotations

__all__ = ["ChosenRows", "Column", "JoinedColumn", "StoredColumn"]

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from featood.cache.reader import BlockReader


class Column(Protocol):
    """Interface of a column, satisfied by NumPy arrays, torch tensors and stored columns."""

    @property
    def shape(self) -> Any:
        """Row count first."""

    @property
    def dtype(self) -> Any:
        """Element type."""

    def __getitem__(self, rows: Any) -> Any:
        """Rows by slice."""


class StoredColumn:
    """A column on disk that reads, checks and returns rows by slice or by index array.

    `kept` lists the stored rows that are valid, if some inputs could not be read.
    """

    def __init__(
        self,
        reader: BlockReader,
        name: str,
        kept: np.ndarray | None,
        decode: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> None:
        spec = reader.store.columns[name]
        rows = reader.store.rows if kept is None else len(kept)
        self.shape = (rows, *spec.shape) if decode is None else (rows,)
        self.dtype = np.dtype(spec.dtype)
        self._reader, self._name, self._kept, self._decode = reader, name, kept, decode

    def __len__(self) -> int:
        return int(self.shape[0])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        values = self[:]
        return values if dtype is None else values.astype(dtype)

    def __getitem__(self, rows: Any) -> np.ndarray:
        if isinstance(rows, tuple):
            return self[:][rows]
        places = (
            np.arange(*rows.indices(len(self))) if isinstance(rows, slice) else np.arange(len(self))[rows]
        )
        stored = places if self._kept is None else self._kept[places]
        values = self._read(stored.reshape(-1))
        if self._decode is not None:
            values = self._decode(values)
        return values.reshape(places.shape + self.shape[1:])[()]

    def _read(self, rows: np.ndarray) -> np.ndarray:
        """Return stored rows in any order; each block is read once."""
        order = None if np.all(rows[1:] >= rows[:-1]) else np.argsort(rows, kind="stable")
        ascending = rows if order is None else rows[order]
        values = np.empty((len(rows), *self._reader.store.columns[self._name].shape), self.dtype)
        size = self._reader.store.block_rows
        ends = np.flatnonzero(np.diff(ascending // size, append=-1)) + 1
        for start, stop in itertools.pairwise([0, *ends.tolist()]):
            block = int(ascending[start]) // size
            self._reader.rows(self._name, block, ascending[start:stop] - block * size, values[start:stop])
        if order is None:
            return values
        found = np.empty_like(values)
        found[order] = values
        return found


class ChosenRows:
    """Selected rows of a column, ascending; a slice reads only the range of rows that contains it."""

    def __init__(self, column: Column, rows: np.ndarray) -> None:
        self._column, self._rows = column, rows
        self.shape = (len(rows), *column.shape[1:])
        self.dtype = column.dtype

    def __getitem__(self, rows: Any) -> Any:
        if isinstance(rows, tuple):
            return self[:][rows]
        if not _is_range(rows):
            return self._column[self._rows[rows]]
        wanted = self._rows[rows]
        first, last = (int(wanted[0]), int(wanted[-1]) + 1) if len(wanted) else (0, 0)
        return self._column[first:last][wanted - first]


class JoinedColumn:
    """The rows of one column followed by those of another with the same row shape.

    Raises
    ------
    ValueError
        If the second is missing, or its rows have another shape.
    """

    def __init__(self, first: Any, second: Any) -> None:
        if second is None or second.shape[1:] != first.shape[1:]:
            raise ValueError("the columns differ in the shape of their rows")
        self._parts = first, second
        self.shape = (len(first) + len(second), *first.shape[1:])
        self.dtype = first.dtype

    def __getitem__(self, rows: Any) -> Any:
        if not _is_range(rows):
            return self[:][rows]
        first, second = self._parts
        start, stop, _ = rows.indices(self.shape[0])
        count = len(first)
        parts = [np.asarray(first[min(start, count) : min(stop, count)])]
        parts.append(np.asarray(second[max(start - count, 0) : max(stop - count, 0)]))
        return np.concatenate(parts)


def _is_range(rows: Any) -> bool:
    return isinstance(rows, slice) and rows.step in (None, 1)
