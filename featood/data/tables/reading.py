"""Reading a table from a file of any format."""

from __future__ import annotations

__all__ = ["read_table"]

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from featood.data.tables.table import Table
from featood.errors import DataError
from featood.readers import Rows, Tokens, class_labels, features_of, read_columns, tokens_of
from featood.readers.numbers import MISSING, is_number

MOST = 5
"""Maximum number of notes about class names."""


def read_table(
    path: str | os.PathLike[str],
    label: str = "",
    header: bool | None = None,
    drop: Sequence[str] = (),
    keep: Sequence[str] = (),
    like: Sequence[str] = (),
    unlike: Sequence[str] = (),
    tokens: Tokens | None = None,
) -> Table:
    """Read a table; all columns except the label are features, or a column of sequences is.

    Columns without a name or any value, columns that number or identify the rows, and rows with missing values are left
    out. The notes of the table state everything left out or converted.

    Parameters
    ----------
    path : path
        A file of separated values, Parquet, Arrow, HDF5, arrays, ...; or the folder of a data set.
    label : str
        The column of classes, by name or by position (from 0, or -1 for the last); empty for none. Classes are numbered
        in the order defined by the file, otherwise in the order of their names (numerical if all are numbers). An empty
        label is missing, ``NA`` is a name.
    header : bool, optional
        Whether the first line of a text file is a header; see :func:`featood.readers.text.read_text`.
    drop, keep : sequence of str
        Further columns to leave out, and columns to keep as features in any case; by name or position.
    like, unlike : sequence of str
        Names of the features and of the columns left out in a related table; they are treated the same way here.
    tokens : Tokens, optional
        The column of sequences; then all columns except this and the label are left out.

    Returns
    -------
    Table
        The table; its ids are the row numbers in the file, from 0.

    Raises
    ------
    DataError
        If the file cannot be read, has no row or no feature, or a feature is not a finite number.
    UsageError
        If a given column does not exist; the message suggests the closest name.
    """
    path = Path(path)
    columns = read_columns(path, header, label)
    if tokens is not None:
        rows = tokens_of(columns, path, tokens, label, len(like))
    else:
        drop = [*drop, *(name for name in unlike if name and name in columns.names)]
        rows = features_of(columns, path, label, drop, keep, like)
    labels, classes = (None, ()) if rows.labels is None else _classes(rows, label, path)
    notes = (*rows.notes, *_class_notes(classes))
    alphabet = tokens.alphabet if tokens else ""
    return Table(rows.features, labels, rows.numbers, rows.columns, classes, rows.left_out, notes, alphabet)


def _classes(rows: Rows, label: str, path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    try:
        labels, names = class_labels(rows.labels, rows.classes)
    except DataError as error:
        raise DataError(f"{path}: column {label!r}: {error}") from None
    if names:
        return labels, names
    numbers, labels = np.unique(labels, return_inverse=True)  # in tables, -1 is an ordinary class
    return labels.astype(np.int64), tuple(map(str, numbers.tolist()))


def _class_notes(classes: Sequence[str]) -> list[str]:
    """Return notes about classes that may be unintended: words for missing values, and equal numbers."""
    notes = [
        f"{name!r} is used as a class, not as a missing label" for name in classes if name.lower() in MISSING
    ]
    numbers: dict[float, str] = {}
    for name in classes:
        if is_number(name) and (other := numbers.setdefault(float(name), name)) != name:
            notes.append(
                f"{other!r} and {name!r} are used as two classes, because they are written differently"
            )
    return notes[:MOST]
