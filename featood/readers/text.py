"""Text files of separated values: CSV, TSV and their dialects."""

from __future__ import annotations

__all__ = ["PACKED", "READER", "read_text", "unpacked"]

import csv
import io
import itertools
import re
from collections.abc import Sequence
from pathlib import Path

from featood.errors import DataError
from featood.readers.columns import Columns, Reader
from featood.readers.numbers import MISSING, is_value

DELIMITERS = "\t;,|"
PACKED = (".gz", ".bz2", ".xz", ".zst")
LOOK = 1 << 22
"""Number of bytes from which the dialect is inferred."""
LINES = 8
BINARY = re.compile(rb"[\x01-\x08\x0e-\x1f]")


def read_text(path: Path, header: bool | None = None, label: str = "") -> Columns:
    """Read a text file of separated values; all values remain text.

    The delimiter is the first of tab, semicolon, comma, bar and spaces that divides all of the first lines into the
    same number of values. Lines that begin with ``#`` are comments; the last one before the first row names the columns
    if it has the right number of names. Files may be compressed (``.gz``, ``.bz2``, ``.xz``, ``.zst``), and in UTF-8,
    in UTF-16 with a byte order mark, or otherwise in Latin-1, with a note.

    Parameters
    ----------
    path : Path
        The file.
    header : bool, optional
        Whether the first line is a header. By default, it is one if it contains no value, or has text or an empty cell
        where the second line has a value. Without a header, the columns are named 0, 1, 2, ...
    label : str
        The column of classes; a first line that contains it is a header.

    Raises
    ------
    DataError
        If there is no row, or rows differ in length.
    """
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    names: list[str] = []
    content, notes = _decoded(unpacked(path), path)
    content, comment = _without_comments(content.strip(b"\r\n"))
    if not content.strip():
        raise DataError(f"{path} {'has no rows' if comment else 'is empty'}")
    head = content[:LOOK].decode(errors="ignore")
    if declared := re.match(r"sep=(.)\r?\n", head):  # written by Excel
        content, head = content[declared.end() :], head[declared.end() :]
    delimiter = declared[1] if declared else _delimiter(head)
    if delimiter == " ":  # or several
        content = b"\n".join(b" ".join(line.split()) for line in content.splitlines())
        head = content[:LOOK].decode(errors="ignore")
    rows = csv.reader(io.StringIO(head, newline=""), delimiter=delimiter)
    first = [" ".join(cell.split()) for cell in next(rows)]
    height = rows.line_num
    second = [cell.strip() for cell in next(filter(None, rows), [])]
    if not any(first):
        raise DataError(f"{path} begins with an empty line")
    if header is None and not _is_header(first, second, label):
        header = False
        commented = [cell.strip() for cell in comment.split(None if delimiter == " " else delimiter)]
        if len(commented) == len(first) and _is_header(commented, first, label):
            names = commented
            notes.append("the comment before the first row names the columns")
    if header is not False:
        names = first
        if not second:
            raise DataError(f"{path} has no rows")
        if len(second) == len(first) + 1:  # each row ends with a delimiter, or begins with a row name of R
            names = ["", *first] if second[-1] else [*first, ""]
    names = names or [str(place) for place in range(len(first))]
    skipped = 0 if header is False else height
    places = [str(place) for place in range(len(names))]
    cells = arrow_csv.read_csv(
        io.BytesIO(content),
        arrow_csv.ReadOptions(
            column_names=places, skip_rows=skipped, block_size=max(LOOK, 8 * len(",".join(first)))
        ),
        arrow_csv.ParseOptions(delimiter=delimiter, newlines_in_values=b'"' in content),
        arrow_csv.ConvertOptions(column_types=dict.fromkeys(places, pa.string())),
    )
    return Columns(tuple(names), tuple(cells.columns), delimiter=delimiter, notes=tuple(notes))


def unpacked(path: Path) -> bytes:
    """Return the content of a file, uncompressed."""
    import pyarrow as pa

    if path.suffix.lower() == ".xz":
        import lzma

        with lzma.open(path) as packed:
            return packed.read()
    with pa.input_stream(str(path), compression="detect") as file:
        return bytes(file.read())


def _decoded(content: bytes, path: Path) -> tuple[bytes, list[str]]:
    """Return the text in UTF-8, without a byte order mark."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16").encode(), []
    content = content.removeprefix(b"\xef\xbb\xbf")
    if b"\0" not in content:
        try:
            if not content.isascii():
                content.decode()
            return content, []
        except UnicodeDecodeError:
            if not BINARY.search(content):
                note = "the file is not UTF-8 and is read as Latin-1; save it as UTF-8 if names look wrong"
                return content.decode("cp1252", errors="replace").encode(), [note]
    raise DataError(f"{path} is neither UTF-8 text nor UTF-16 with a byte order mark; save it as UTF-8")


def _without_comments(content: bytes) -> tuple[bytes, str]:
    """Remove comment lines; also return the text of the last one before the first row."""
    comment = b""
    while content.startswith(b"#"):
        comment, _, content = content.partition(b"\n")
        content = content.lstrip(b"\r\n")
    if b"\n#" in content:
        first = content.partition(b"\n")[0]
        mark = next((mark for mark in DELIMITERS.encode() if bytes([mark]) in first), b" "[0])
        cells = first.count(mark)
        # a line that begins with # is a row if it has as many values as the others
        kept = [
            line for line in content.split(b"\n") if not line.startswith(b"#") or line.count(mark) == cells
        ]
        content = b"\n".join(kept)
    return content, comment[1:].decode(errors="replace").strip()


def _delimiter(head: str) -> str:
    def widths(mark: str) -> list[int]:
        rows = csv.reader(io.StringIO(head, newline=""), delimiter=mark, skipinitialspace=mark == " ")
        cells = ([cell for cell in row if cell] if mark == " " else row for row in rows if row)
        try:
            return [len(row) for row in itertools.islice(cells, LINES)]
        except csv.Error:
            return []

    marks = [*DELIMITERS, " "]
    even = [mark for mark in marks if (counts := widths(mark)) and counts[0] > 1 and len(set(counts)) == 1]
    first = head.partition("\n")[0].strip()
    present = [mark for mark in DELIMITERS if mark in first]
    return [*even, *present, "," if " " in first else " "][0]


def _is_header(first: Sequence[str], second: Sequence[str], label: str) -> bool:
    if (label in first and not is_value(label)) or not any(map(is_value, first)):
        return True
    return any(
        is_value(under) and not is_value(cell) and cell.lower() not in MISSING
        for cell, under in zip(first, second, strict=False)
    )


READER = Reader(
    title="separated values", endings=(".csv", ".tsv", ".txt", ".tab", ".dat", ".data"), read=read_text
)
