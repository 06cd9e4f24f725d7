"""Layouts of sets of texts: tables with a column of texts, files of one text per line, and files in class folders."""

from __future__ import annotations

__all__ = [
    "FOLDERS",
    "class_folders",
    "decoded",
    "folder_kind",
    "lines_file",
    "lines_of",
    "read_texts",
    "split_file",
    "texts_of_file",
]

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from featood.data.dialects import HEAD, read_lines, sniff
from featood.data.folders import FolderKind, whole_folder
from featood.data.labels import set_labels
from featood.data.layouts import SPLITS, Loader, choice, find_split, noting
from featood.data.suffixes import IMAGE_SUFFIXES
from featood.data.texts.text_set import TextSet, text_set
from featood.errors import DataError
from featood.readers import read_columns
from featood.readers.columns import Columns

TABLES = (".csv", ".tsv", ".parquet", ".feather", ".arrow")
LINES = (".txt",)
TEXTS = ("text", "texts", "sentence", "content", "document", "body", "description", "title")
"""Names of columns of texts; the first that a table has is read."""
LABELS = ("label", "labels", "class", "category", "section", "topic", "target", "intent")
"""Names of columns of classes."""


def split_file(folder: Path, split: str, stem: str = "") -> Loader | None:
    """Layout ``FOLDER/<split>.csv`` (or another of a table, or ``.txt``), or ``FOLDER/<stem>-<split>.csv``."""
    if stem:
        paths = (folder / f"{stem}-{split}{suffix}" for suffix in TABLES + LINES)
        found = next((path for path in paths if path.is_file()), None)
        return None if found is None else texts_of_file(found, stem)
    path = find_split(folder, split, TABLES + LINES)
    loader = None if path is None else texts_of_file(path)
    return loader and noting(loader, *choice(path, split, TABLES + LINES))  # type: ignore[arg-type]


def texts_of_file(path: Path, stem: str = "") -> Loader | None:
    """Return the loader of a file of texts; None for a list of images, or a file of another kind."""
    suffix = path.suffix.lower()
    if suffix in (".txt", ".csv", ".tsv") and _lists_images(path):
        return None
    if suffix in LINES:
        return partial(lines_file, path)
    return partial(_table, path, stem) if suffix in TABLES else None


def _lists_images(path: Path) -> bool:
    """Whether the first row names an image, or there is none."""
    head = read_lines(path, HEAD)
    firsts = [next(dialect.rows(head), (0, "", ""))[1] for dialect in sniff(head)]
    return not any(firsts) or any(Path(first).suffix.lower() in IMAGE_SUFFIXES for first in firsts)


def lines_file(path: Path) -> TextSet:
    """Read a file of one text per line, without labels."""
    text, notes = decoded(path)
    return text_set(lines_of(text), sources=(path,), notes=notes)


def lines_of(text: str) -> list[str]:
    """Divide a text at the ends of its lines, and strip them; other separators of Unicode are part of a line."""
    return [line.strip() for line in text.removesuffix("\n").split("\n")]


def _table(path: Path, stem: str = "") -> TextSet:
    """Read the columns of texts and of classes of a table.

    Raises
    ------
    DataError
        If no column is recognised as the texts.
    """
    columns = read_columns(path)
    place, label = (_place(columns, known) for known in (TEXTS, LABELS))
    if place is None:
        raise DataError(
            f"{path} has the columns {', '.join(columns.names)}; name that of the texts 'text', and that of the "
            "classes 'label'"
        )
    texts = ["" if value is None else str(value) for value in _plain(columns.values[place])]
    found: tuple[np.ndarray | None, tuple[str, ...], tuple[str, ...]] = (None, (), ())
    if label is not None:
        found = set_labels(columns.values[label], len(texts), path, partial(_labels_beside, path, stem))
    titles = [columns.names[at] for at in (place, label) if at is not None]
    note = f"texts {titles[0]!r}, {f'classes {titles[1]!r}' if label is not None else 'no column of classes'}"
    labels, classes, notes = found
    return text_set(
        texts, labels, classes=classes, sources=(path,), notes=(f"columns: {note}", *columns.notes, *notes)
    )


def _labels_beside(path: Path, stem: str) -> set[str]:
    """Return the labels of the other splits, so that an index is the same class in all splits."""
    before = f"{stem}-" if stem else ""
    others = (path.with_name(f"{before}{split}{path.suffix}") for split in SPLITS)
    found: set[str] = set()
    for other in others:
        if other != path and other.is_file():
            columns = read_columns(other)
            label = _place(columns, LABELS)
            found |= set() if label is None else set(map(str, _plain(columns.values[label])))
    return found


def _place(columns: Columns, known: Sequence[str]) -> int | None:
    """Return which column has the first of some names that the table has; None if there is none."""
    names = [name.strip().lower() for name in columns.names]
    return next((names.index(name) for name in known if name in names), None)


def _plain(column: Any) -> list[Any]:
    values: list[Any] = column.to_pylist() if hasattr(column, "to_pylist") else column.tolist()
    return values


def read_texts(ids: Sequence[str], root: Path, notes: Sequence[str] = (), **fields: Any) -> TextSet:
    """Read one text from each file; ids are relative to the folder `root`."""
    paths = tuple(root / name for name in ids)
    found = [decoded(path) for path in paths]
    if latin := sum(bool(about) for _, about in found):
        notes = (*notes, f"{latin} of {len(paths)} files are not UTF-8 and are read as Latin-1")
    texts = tuple(text.strip() for text, _ in found)
    return TextSet(ids=tuple(ids), texts=texts, sources=paths, notes=tuple(notes), **fields)


def decoded(path: Path) -> tuple[str, list[str]]:
    """Return the text of a file, in UTF-8 or else in Latin-1, and a note about the latter.

    Raises
    ------
    DataError
        If it is not text.
    """
    content = path.read_bytes()
    if b"\0" in content:
        raise DataError(f"{path} is not a text file: it contains zero bytes; convert it to UTF-8")
    try:
        return content.decode("utf-8-sig"), []
    except UnicodeDecodeError:
        return content.decode("latin-1"), [f"{path.name} is not UTF-8 and is read as Latin-1"]


def folder_kind(suffixes: Sequence[str]) -> FolderKind:
    """Return how texts with some suffixes are read from class folders."""
    make: Callable[..., TextSet] = read_texts
    return FolderKind("texts", frozenset(suffixes), make)


FOLDERS = folder_kind(LINES)
"""Class folders of text files."""


def class_folders(folder: Path, split: str, lenient: bool = False) -> Loader | None:
    """Layout of class folders in FOLDER itself, as ``test``; text files beside them may describe anything."""
    if any(path.suffix.lower() in LINES for path in folder.iterdir()):
        return None
    return whole_folder(folder, split, FOLDERS, lenient)
