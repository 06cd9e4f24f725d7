"""Reading a table from a text file of separated values."""

from __future__ import annotations

__all__ = ["read_csv"]

import csv
import difflib
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from featood.data.tables import Table
from featood.errors import DataError, UsageError

if TYPE_CHECKING:
    import pyarrow as pa

MISSING = ("", "?", "NA", "N/A", "na", "n/a", "nan", "NaN", "NAN", "null", "NULL")
LOOK = 1 << 22
"""Bytes in which the first two lines are sought."""


def read_csv(path: str | os.PathLike[str], label: str = "", header: bool | None = None) -> Table:
    r"""Read a table.

    Values are separated by tab, semicolon, comma or space, whichever of these the first line has, in this
    order; ``.gz`` and ``.bz2`` files are unpacked as they are read. Rows with missing values (empty, ``?``,
    ``NA``, ``nan``, ...) are left out, and so is a first column without a name, which numbers the rows.

    Parameters
    ----------
    path : path
        The file.
    label : str
        The column of classes: its name, or its position, counted from 0, or from the end with -1 for the
        last; none where not given. Classes are numbered in the order of their names, as numbers where all
        are numbers.
    header : bool, optional
        Whether the first line names the columns. By default it does if it has text, or nothing, where the
        second line has a number. Without it the columns are called 0, 1, 2, ...

    Returns
    -------
    Table
        Its ids count the rows of the file from 0; its notes say what was left out, and what is constant.

    Raises
    ------
    DataError
        When there is no such file, or no row, or a value is not a finite number.
    UsageError
        When there is no such label column; the text names the nearest.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path} does not exist")
    cells = _read_cells(path, label, header)
    names = list(cells.column_names)
    target = _position(label, names, path) if label else -1
    used = [place for place in range(len(names)) if place != target]
    notes = []
    if used and names[used[0]] == "":
        used = used[1:]
        notes.append("the first column has no name and is left out")
    if not used:
        raise DataError(f"{path} has no column of features")
    whole = ~np.any([_missing(cells, place) for place in used + [target] * bool(label)], axis=0)
    if dropped := int((~whole).sum()):
        notes.append(f"{dropped} rows with missing values are left out")
    if not whole.any():
        raise DataError(f"{path} has no row without missing values")
    rows = np.flatnonzero(whole)
    features = np.stack([_numbers(cells, place, rows, path) for place in used], axis=1)
    columns = tuple(names[place] for place in used)
    constant = [name for name, same in zip(columns, np.ptp(features, axis=0) == 0, strict=True) if same]
    if constant and len(features) > 1:
        notes.append(f"constant: {', '.join(constant)}")
    labels, classes = _classes(cells, target, rows) if label else (None, ())
    return Table(features, labels, rows, columns, classes, tuple(notes))


def _read_cells(path: Path, label: str, header: bool | None) -> pa.Table:
    """Read every cell as text, without the spaces around it."""
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import csv as arrow_csv

    try:
        with pa.input_stream(str(path), compression="detect") as file:
            content = file.read().removeprefix(b"\xef\xbb\xbf").strip(b"\r\n")
        lines = [line.decode() for line in content[:LOOK].splitlines()[:2]]
        if not content.strip():
            raise DataError(f"{path} is empty")
        delimiter = next((mark for mark in "\t;," if mark in lines[0]), " ")
        if delimiter == " ":  # any number of them
            content = b"\n".join(b" ".join(line.split()) for line in content.splitlines())
            lines = [" ".join(line.split()) for line in lines]
        rows = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=delimiter)]
        first, second = [*rows, []][:2]
        if not first:
            raise DataError(f"{path} begins with an empty line")
        if header is None:
            header = _is_header(first, second, label)
        if header and len(lines) < 2:
            raise DataError(f"{path} has no rows")
        names = first if header else [str(place) for place in range(len(first))]
        if twice := [name for name in names if names.count(name) > 1]:
            raise DataError(f"{path} has two columns called {twice[0]!r}; rename one")
        cells = arrow_csv.read_csv(
            io.BytesIO(content),
            arrow_csv.ReadOptions(column_names=names, skip_rows=int(header)),
            arrow_csv.ParseOptions(delimiter=delimiter),
            arrow_csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string())),
        )
    except (pa.ArrowInvalid, OSError, UnicodeDecodeError, csv.Error) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path} is not a table of separated values in UTF-8 ({reason})") from None
    return pa.table([pc.utf8_trim_whitespace(column) for column in cells.columns], names=names)


def _is_header(first: Sequence[str], second: Sequence[str], label: str) -> bool:
    if (label in first and not _is_number(label)) or not any(map(_is_number, first)):
        return True
    pairs = zip(first, second, strict=False)
    return any(
        _is_number(under) and not _is_number(cell) and cell not in MISSING[1:] for cell, under in pairs
    )


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return cell.isascii() and "_" not in cell  # float takes more than tables do


def _position(label: str, names: Sequence[str], path: Path) -> int:
    if label in names:
        return names.index(label)
    try:
        place = int(label)
    except ValueError:
        near = difflib.get_close_matches(label, names, n=1)
        some = ", ".join(filter(None, names[:8])) + (", ..." if len(names) > 8 else "")
        hint = f"did you mean {near[0]!r}?" if near else f"it has {some}"
        raise UsageError(f"{path} has no column {label!r}: {hint}") from None
    if not -len(names) <= place < len(names):
        raise UsageError(f"{path} has {len(names)} columns, so none at position {place}")
    return place % len(names)


def _missing(cells: pa.Table, place: int) -> np.ndarray:
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.is_in(cells.column(place), value_set=pa.array(MISSING)).to_numpy()


def _numbers(cells: pa.Table, place: int, rows: np.ndarray, path: Path) -> np.ndarray:
    texts = cells.column(place).take(rows)
    try:
        values = texts.cast("float64").to_numpy()
    except ValueError:
        wrong = next(text for text in texts.to_pylist() if not _is_number(text))
        name = cells.column_names[place]
        raise DataError(
            f"{path}: column {name!r} holds {wrong!r}, which is not a number; leave the column out of the file, "
            f"or name it with --label if it is the class"
        ) from None
    if not np.isfinite(values).all():
        raise DataError(f"{path}: column {cells.column_names[place]!r} holds an infinite value")
    return values


def _classes(cells: pa.Table, place: int, rows: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    texts = cells.column(place).take(rows).to_pylist()
    if all(map(_is_number, texts)):
        values, labels = np.unique(np.array(texts, np.float64), return_inverse=True)
        return labels.astype(np.int64), tuple(f"{value:.15g}" for value in values)
    names, labels = np.unique(np.array(texts), return_inverse=True)
    return labels.astype(np.int64), tuple(names.tolist())
