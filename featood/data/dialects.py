"""Dialects of lists of files: the delimiter, and the columns of path and label."""

from __future__ import annotations

__all__ = ["Dialect", "read_lines", "sniff"]

import csv
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from featood.data.suffixes import IMAGE_SUFFIXES
from featood.errors import reading

HEAD = 1 << 16
_MARKS = "\t;,|"
_PATHS = ("path", "paths", "filepath", "imagepath", "imgpath", "filename", "file", "image", "img", "images",
          "imagefile", "imagename", "name", "imageid", "idcode", "id")  # fmt: skip
_LABELS = ("label", "labels", "target", "targets", "class", "classes", "classid", "labelid", "category",
           "classname", "labelname", "y", "species", "diagnosis")  # fmt: skip
_PATH = re.compile(rf"(.+(?:{'|'.join(map(re.escape, sorted(IMAGE_SUFFIXES)))}))(?:\s+(.*))?", re.IGNORECASE)
_QUOTED = re.compile(r"([\"'])(.+?)\1(?:\s+(.*))?")


def read_lines(path: Path, size: int = -1) -> list[str]:
    """Read the lines in the first ``size`` bytes of a text file (UTF-8, or UTF-16 with a byte order mark).

    Raises
    ------
    DataError
        If it cannot be read or decoded.
    """
    with reading(path), open(path, "rb") as file:
        content = file.read(size)
        if len(content) == size:
            content = content[: content.rfind(b"\n") + 1] or content  # without the incomplete last line
        wide = content[:2] in (b"\xff\xfe", b"\xfe\xff")
        text = content.decode("utf-16", "ignore") if wide else content.decode("utf-8-sig")
    # splitlines would also split at characters that are allowed in paths
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


@dataclass(frozen=True)
class Dialect:
    """The delimiter (empty for blanks), and the columns of path and label."""

    mark: str = ""
    path: int = 0
    label: int | None = 1
    width: int = 2
    header: bool = False
    notes: tuple[str, ...] = ()

    def rows(self, lines: Sequence[str]) -> Iterator[tuple[int, str, str]]:
        """Yield line number, path and label (may be empty) of each row."""
        rows = _cells(lines, self.mark) if self.mark else self._blank_separated(lines)
        for number, cells in islice(rows, int(self.header), None):
            if (extra := len(cells) - self.width) > 0:  # the path contains the delimiter
                span = slice(self.path, self.path + extra + 1)
                cells[span] = [self.mark.join(cells[span])]
            cells += [""] * (self.width - len(cells))
            yield number, cells[self.path], "" if self.label is None else cells[self.label]

    def _blank_separated(self, lines: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
        return ((number, _split(line.strip())) for number, line in enumerate(lines, 1) if _is_row(line))


def sniff(lines: Sequence[str]) -> Iterator[Dialect]:
    """Yield possible dialects of a list, judging from its first lines, the most likely first."""
    for mark in _MARKS:
        rows = [cells for _, cells in _cells(lines, mark)]
        if rows and len(rows[0]) > 1 and (dialect := _columns(rows, mark)):
            yield dialect
    first = next(filter(_is_row, lines), "")
    words = [word for word in map(_plain, first.split()) if word]
    yield Dialect(header=words[:1] != [] and words[0] in _PATHS and set(words[1:]) <= set(_LABELS))


def _cells(lines: Sequence[str], mark: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(lines, delimiter=mark, skipinitialspace=True)
    return ((reader.line_num, [_unquoted(cell.strip()) for cell in row]) for row in reader if any(row))


def _columns(rows: list[list[str]], mark: str) -> Dialect | None:
    """Find the column of paths, by file extensions or by its name, and the column of labels."""
    names = list(map(_plain, rows[0]))
    width = min(len(row) for row in rows if len(row) > 1)  # rows whose path contains the delimiter are longer
    header = len(rows) > 1 and not any(map(_is_image, rows[0]))
    body = [row for row in rows[header:] if len(row) == width]
    by_name = [place for name in _PATHS for place in range(width) if names[place : place + 1] == [name]]
    endings = [sum(_is_image(row[place]) for row in body) for place in range(width)]
    by_ending = [place for place in range(width) if 2 * endings[place] > len(body)]
    paths = [place for place in by_name if place in by_ending] or by_ending or by_name
    if not paths:
        return None
    path = paths[0]
    others = [place for place in range(width) if place != path]
    if header and len(names) == width:
        known = [place for name in _LABELS for place in others if names[place] == name]
        known = known or [place for place in others if names[place]]
        label = known[0] if len(known) == 1 or names[known[0]] in _LABELS else None
        title = "no labels recognised" if label is None else f"labels {rows[0][label]!r}"
        note = f"columns of the list: paths {rows[0][path]!r}, {title}"
        return Dialect(mark, path, label, width, True, (note,))
    if len(others) > 1:  # lists of MXNet have a column of row numbers
        numbers = [place for place in others if _numbers_rows([row[place] for row in body])]
        numbers = numbers if len(numbers) < len(others) else numbers[:1]
        others = [place for place in others if place not in numbers]
    label = others[0] if len(others) == 1 else None
    title = "labels unknown: add a first line with column names" if label is None else f"labels {label}"
    notes = (f"columns of the list, counted from 0: paths {path}, {title}",) if width > 2 or path else ()
    return Dialect(mark, path, label, width, False, notes)


def _split(line: str) -> list[str]:
    """Split ``path label``, both of which may contain blanks; a missing label is empty."""
    if match := _QUOTED.fullmatch(line):
        return [match[2], match[3] or ""]
    match = _PATH.fullmatch(line)
    head, *tail = line.rsplit(maxsplit=1)
    if tail and re.fullmatch(r"-?\d+(\.0*)?", tail[0]) and (not match or _is_image(head)):
        return [head, tail[0]]
    return [match[1], match[2] or ""] if match else [line, ""]


def _is_row(line: str) -> bool:
    """Whether a line is not empty, and no comment: a path may begin with ``#``, too."""
    text = line.strip()
    return bool(text) and (text[0] != "#" or _PATH.fullmatch(text) is not None)


def _is_image(cell: str) -> bool:
    return os.path.splitext(cell)[1].lower() in IMAGE_SUFFIXES


def _numbers_rows(cells: list[str]) -> bool:
    return len(set(cells)) == len(cells) > 1 and all(cell.isascii() and cell.isdigit() for cell in cells)


def _plain(name: str) -> str:
    return re.sub(r"[\s_\-#\"']", "", name).lower()


def _unquoted(cell: str) -> str:
    return cell[1:-1] if len(cell) > 1 and cell[0] == cell[-1] and cell[0] in "\"'" else cell
