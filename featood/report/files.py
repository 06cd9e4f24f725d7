"""Results as JSON and CSV files, written atomically."""

from __future__ import annotations

__all__ = ["replacing", "rows_as_csv", "write_csv", "write_json", "write_rows", "write_text"]

import csv
import io
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from featood import files
from featood.errors import DataError
from featood.report.rows import METRIC_COLUMNS

_CSV_COLUMNS = (
    *("head", "ood", "split", "n_id", "n_ood"),
    *(column.key for column in METRIC_COLUMNS),
    *("fit_s", "score_s"),
)


def write_json(path: str | Path, results: Mapping[str, Any]) -> None:
    """Write results as one JSON object; "-" is standard output.

    Raises
    ------
    DataError
        If a value is NaN, infinite or not of a JSON type, or the file cannot be written.
    """
    try:
        text = json.dumps(results, indent=2, allow_nan=False, default=_plain)
    except (TypeError, ValueError) as error:
        raise DataError(f"results cannot be written as JSON: {error}") from None
    write_text(path, text + "\n")


def write_csv(path: str | Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write result rows as CSV, metrics as fractions; "-" is standard output.

    The standard columns of a result row come first, in a fixed order, followed by any other columns. Missing values
    are empty fields.

    Raises
    ------
    DataError
        If the file cannot be written.
    """
    write_text(path, rows_as_csv(rows))


def write_rows(path: str | Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows of any columns as CSV; "-" is standard output. Missing values are empty fields.

    Raises
    ------
    DataError
        If the file cannot be written.
    """
    write_text(path, rows_as_csv(rows, ()))


def rows_as_csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = _CSV_COLUMNS) -> str:
    """Return rows as CSV: the named columns, then any others."""
    extra = dict.fromkeys(key for row in rows for key in row if key not in columns)
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, [*columns, *extra], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text atomically; "-" is standard output."""
    if str(path) == "-":
        sys.stdout.write(text)
        sys.stdout.flush()
    else:
        with replacing(path) as file:
            file.write(text.encode())


@contextmanager
def replacing(path: str | Path) -> Iterator[IO[bytes]]:
    """Open a temporary file that replaces `path` when the block ends without an error.

    See :func:`featood.files.replacing`.

    Raises
    ------
    DataError
        If the file cannot be written.
    """
    try:
        with files.replacing(path) as file:
            yield file
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror or error}") from error


def _plain(value: Any) -> Any:
    """Convert a NumPy scalar or array to Python values for json."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not a JSON type")
