"""The result of a reader: named columns with metadata."""

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
    """The columns of a file, before anything is left out or converted.

    Attributes
    ----------
    names : tuple of str
        May be empty, or occur twice.
    values : tuple of array
        NumPy arrays ``[N, ...]``, or Arrow columns ``[N]``.
    tabular : bool
        Whether the columns form one table, rather than being separate arrays in one file.
    delimiter : str
        Delimiter of a text file; empty for other files.
    classes : mapping of str to tuple of str
        For columns of class numbers, the names of the classes, if the file has them.
    index : tuple of str
        Columns that the file declares as row labels.
    notes : tuple of str
        Notes for the user.
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
    """Reader of one file format.

    Attributes
    ----------
    title : str
        Name of the format.
    endings : tuple of str
        File extensions, in lower case.
    read : callable
        ``read(path) -> Columns``; errors of any type are converted to one line by :func:`read_columns`.
    magic : tuple of bytes
        First bytes of its files, which take precedence over extensions.
    begins : callable, optional
        Whether the first bytes of a file are those of this format, where they vary.
    folder : callable, optional
        Whether a folder has this format.
    """

    title: str
    endings: tuple[str, ...]
    read: Callable[[Path], Columns]
    magic: tuple[bytes, ...] = ()
    begins: Callable[[bytes], bool] = lambda first: False
    folder: Callable[[Path], bool] = lambda path: False


def from_arrow(table: pa.Table, **facts: Any) -> Columns:
    """Convert an Arrow table; lists of equal length become arrays ``[N, D]``."""
    values: list[np.ndarray | pa.ChunkedArray] = []
    for column in table.columns:
        stacked = vectors(column)
        values.append(column if stacked is None else stacked)
    pandas = json.loads((table.schema.metadata or {}).get(b"pandas", b"{}"))
    index = tuple(name for name in pandas.get("index_columns", ()) if isinstance(name, str))
    return Columns(tuple(table.column_names), tuple(values), index=index, **facts)
