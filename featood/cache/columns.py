"""Columns of a FeatureSet that read their rows on demand: stored, selected from another column, or concatenated."""

from __future__ import annotations

__all__ = ["ChosenRows", "Column", "JoinedColumn", "StoredColumn"]

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
    """A column on disk that reads, checks and returns rows by slice.

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
        if not _is_range(rows):
            return self[:][rows]
        start, stop, _ = rows.indices(len(self))
        if self._kept is None:
            values = self._physical(start, stop)
        else:
            wanted = self._kept[start:stop]
            first = int(wanted[0]) if len(wanted) else 0
            values = self._physical(first, int(wanted[-1]) + 1 if len(wanted) else 0)[wanted - first]
        return values if self._decode is None else self._decode(values)

    def _physical(self, start: int, stop: int) -> np.ndarray:
        size = self._reader.store.block_rows
        if stop <= start:
            return np.empty((0, *self._reader.store.columns[self._name].shape), self.dtype)
        parts = [
            self._reader(self._name, block)[max(start - block * size, 0) : stop - block * size]
            for block in range(start // size, (stop - 1) // size + 1)
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


class ChosenRows:
    """Selected rows of a column, ascending; a slice reads only the range of rows that contains it."""

    def __init__(self, column: Column, rows: np.ndarray) -> None:
        self._column, self._rows = column, rows
        self.shape = (len(rows), *column.shape[1:])
        self.dtype = column.dtype

    def __getitem__(self, rows: Any) -> Any:
        if not _is_range(rows):
            return self[:][rows]
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
