"""What a reader returns: named columns of equal length, and what there is to know about them."""

from __future__ import annotations

__all__ = ["Columns", "Reader", "from_arrow"]

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from featood.readers.arrays import vectors

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, eq=False)
class Columns:
    """The columns of a file, as it holds them: nothing is left out or converted yet.

    Attributes
    ----------
    names : tuple of str
        May be empty texts, or occur twice.
    values : tuple of array
        NumPy arrays ``[N, ...]``, or Arrow columns ``[N]``.
    tabular : bool
        Whether the columns are those of one table, rather than arrays that were put into one file.
    delimiter : str
        What separates the values of a text; empty for other files.
    classes : mapping of str to tuple of str
        Names of the classes that a column of integers counts, where the file says so.
    index : tuple of str
        Columns that only label the rows, where the file says so.
    notes : tuple of str
        What a reader should know.
    """

    names: tuple[str, ...]
    values: tuple[Any, ...]
    tabular: bool = True
    delimiter: str = ""
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    index: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Reader:
    """How files of one format are read.

    Attributes
    ----------
    title : str
        What the format is called.
    endings : tuple of str
        Ends of the names of its files, lower case.
    read : callable
        ``read(path) -> Columns``; it may raise whatever its library raises, for :func:`read_columns` turns that
        into one line.
    magic : tuple of bytes
        First bytes of its files; they tell more than an ending does.
    folder : callable, optional
        Whether a folder is of this format, for one that is a folder.
    """

    title: str
    endings: tuple[str, ...]
    read: Callable[[Path], Columns]
    magic: tuple[bytes, ...] = ()
    folder: Callable[[Path], bool] = lambda path: False


def from_arrow(table: pa.Table, **facts: Any) -> Columns:
    """Take an Arrow table; lists of equal length become arrays ``[N, D]``."""
    values: list[np.ndarray | pa.ChunkedArray] = []
    for column in table.columns:
        stacked = vectors(column)
        values.append(column if stacked is None else stacked)
    pandas = json.loads((table.schema.metadata or {}).get(b"pandas", b"{}"))
    index = tuple(name for name in pandas.get("index_columns", ()) if isinstance(name, str))
    return Columns(tuple(table.column_names), tuple(values), index=index, **facts)
