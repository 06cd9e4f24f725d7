"""Reading a table from a file of any format."""

from __future__ import annotations

__all__ = ["read_table"]

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from featood.data.tables.table import Table
from featood.errors import DataError
from featood.readers import Rows, class_labels, features_of, read_columns
from featood.readers.numbers import MISSING, is_number

MOST = 5
"""Notes about names of classes."""


def read_table(
    path: str | os.PathLike[str],
    label: str = "",
    header: bool | None = None,
    drop: Sequence[str] = (),
    keep: Sequence[str] = (),
    like: Sequence[str] = (),
    unlike: Sequence[str] = (),
) -> Table:
    """Read a table: all columns but that of the classes are features.

    Columns without a name or a value, and those that number or identify the rows, are left out, as are rows that
    lack a value. The table's notes name all that was left out or converted.

    Parameters
    ----------
    path : path
        A file of separated values, Parquet, Arrow, HDF5, arrays, ...; or the folder of a data set.
    label : str
        The column of classes: its name, or its position, counted from 0, or from the end with -1 for the last;
        none where not given. Classes are numbered in the order of their names, as numbers where all are numbers,
        or as the file says. An empty label is missing, ``NA`` is a name.
    header : bool, optional
        Whether the first line of a text names the columns; see :func:`featood.readers.text.read_text`.
    drop, keep : sequence of str
        Columns to leave out besides, and columns to take although they look like none; by name or position.
    like, unlike : sequence of str
        Names of the features of a table that this one goes with, and of what was left out there: so they are here.

    Returns
    -------
    Table
        Its ids count the rows of the file from 0.

    Raises
    ------
    DataError
        When the file cannot be read, or has no row or no column of features, or a feature is not a finite number.
    UsageError
        When a column that is named is not there; the text names the nearest.
    """
    path = Path(path)
    columns = read_columns(path, header, label)
    drop = [*drop, *(name for name in unlike if name and name in columns.names)]
    rows = features_of(columns, path, label, drop, keep, like)
    labels, classes = (None, ()) if rows.labels is None else _classes(rows, label, path)
    notes = (*rows.notes, *_alike(classes))
    return Table(rows.features, labels, rows.numbers, rows.columns, classes, rows.left_out, notes)


def _classes(rows: Rows, label: str, path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    try:
        labels, names = class_labels(rows.labels, rows.classes)
    except DataError as error:
        raise DataError(f"{path}: column {label!r}: {error}") from None
    if names:
        return labels, names
    numbers, labels = np.unique(labels, return_inverse=True)  # of a table, -1 is a class like any other
    return labels.astype(np.int64), tuple(map(str, numbers.tolist()))


def _alike(classes: Sequence[str]) -> list[str]:
    """Tell of names of classes that may not have been meant as such."""
    notes = [
        f"{name!r} is taken as a class, not as a missing label" for name in classes if name.lower() in MISSING
    ]
    numbers: dict[float, str] = {}
    for name in classes:
        if is_number(name) and (other := numbers.setdefault(float(name), name)) != name:
            notes.append(f"{other!r} and {name!r} are taken as two classes, for they are written differently")
    return notes[:MOST]
