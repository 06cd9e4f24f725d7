"""Lists of images: text files with a path, and optionally a label, per line."""

from __future__ import annotations

__all__ = [
    "BENCHMARK_LISTS",
    "BENCHMARK_ROOTS",
    "LIST_SUFFIXES",
    "benchmark_list",
    "image_list",
    "listed_file",
    "read_list",
]

import os
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path, PurePosixPath

from featood.data.dialects import HEAD, Dialect, read_lines, sniff
from featood.data.images.image_set import ImageSet
from featood.data.labels import set_labels
from featood.data.layouts import SPLITS, Loader, canonical, choice, find_split, noting
from featood.errors import DataError, reading

LIST_SUFFIXES = (".txt", ".csv", ".tsv", ".lst", ".list")
BENCHMARK_LISTS = "benchmark_imglist"
"""Folder of the image lists of OpenOOD and OpenMIBOOD, with a folder for each benchmark."""
BENCHMARK_ROOTS = ("images_classic", "images_largescale", "midog", "phakir")
"""Folders of their images, beside it; the images may also be beside it themselves."""


def image_list(
    folder: Path,
    split: str,
    pattern: str = "",
    roots: Sequence[str | Path] = (".",),
    suffixes: tuple[str, ...] = LIST_SUFFIXES,
) -> Loader | None:
    """Layout ``FOLDER/<split>.txt`` (or another of ``suffixes``), or the file given by ``pattern``.

    Raises
    ------
    DataError
        See :func:`listed_file`.
    """
    path = folder / pattern.format(split=split) if pattern else find_split(folder, split, suffixes)
    if path is None or not path.is_file():
        return None
    loader = listed_file(path, [folder / root for root in roots])
    return loader if pattern else noting(loader, *choice(path, split, suffixes))


def benchmark_list(folder: Path, split: str, name: str) -> Loader | None:
    """Layout ``FOLDER/<split>_<name>.txt`` of a benchmark.

    Raises
    ------
    DataError
        See :func:`listed_file`.
    """
    roots = tuple(f"../../{root}" for root in (*BENCHMARK_ROOTS, ""))
    loader = image_list(folder, split, roots=roots, suffixes=(f"_{name}.txt",))
    return loader and noting(loader, f"the rows are those of the image list of the benchmark {folder.name}")


def listed_file(path: Path, roots: Sequence[Path]) -> Loader:
    """Find the folder to which the paths of a list are relative: the first of ``roots`` that contains its first image.

    Raises
    ------
    DataError
        If none of them contains the first image, which the message names.
    """
    first, reason = "", f"{path} lists no images"
    with reading(path):
        head = read_lines(path, HEAD)
        for dialect in sniff(head):
            number, name, _ = next(dialect.rows(head), (0, "", ""))
            for root in roots if name else ():
                relative = _below(name, _tops(root))
                if relative is not None and (root / relative).is_file():
                    return partial(read_list, path, root, dialect)
            if name and not first:
                first = name
                places = " or ".join(dict.fromkeys(str(root) for root in roots[:2]))
                outside = all(_below(name, _tops(root)) is None for root in roots)
                reason = f"{path}, line {number}: {name!r} {'must be' if outside else 'does not exist'} below {places}"
    raise DataError(reason)


def read_list(path: Path, root: Path, dialect: Dialect | None = None) -> ImageSet:
    """Read an image list; missing and negative labels are unknown.

    Delimiters, quotes, a header, and names as labels are supported, see :mod:`featood.data.dialects`. Class
    names are numbered over the lists of all splits in the same folder.

    Raises
    ------
    DataError
        If a path is outside ``root``, or the labels are not classes.
    """
    with reading(path):
        lines = read_lines(path)
        dialect = dialect or next(iter(sniff(lines)))
        rows = list(dialect.rows(lines))
        texts = [label for *_, label in rows]
        labels, classes, notes = set_labels(texts, len(rows), path, partial(_labels_beside, path))
        tops = _tops(root)
        ids = tuple(_checked(_below(name, tops), name, number, path, root) for number, name, _ in rows)
    known = labels if (labels >= 0).any() else None
    images = ImageSet(ids=ids, labels=known, classes=classes, root=root, notes=(*dialect.notes, *notes))
    if any("\\" in name for _, name, _ in rows):
        images = images.with_notes(f"backslashes in the paths of {path.name} are read as slashes")
    if any(_is_absolute(name.replace("\\", "/")) for _, name, _ in rows):
        images = images.with_notes(f"absolute paths in {path.name} are read as paths below {root}")
    return images


def _labels_beside(path: Path) -> set[str]:
    """Return the labels in the lists of other splits, so that an index is the same class in all splits."""
    if canonical(path.stem) not in SPLITS:
        return set()
    found = (find_split(path.parent, split, (path.suffix.lower(),)) for split in SPLITS)
    texts = (read_lines(other) for other in found if other is not None and other != path)
    return {label for lines in texts for *_, label in next(iter(sniff(lines[:1000]))).rows(lines)}


def _tops(root: Path) -> tuple[str, ...]:
    return tuple(Path(top).as_posix() for top in (os.path.abspath(root), os.path.realpath(root)))


def _below(name: str, tops: Sequence[str]) -> str | None:
    """Return a path relative to the root, whose absolute names are ``tops``; None if it is outside."""
    path = name.replace("\\", "/")
    if _is_absolute(path):
        path = next((path[len(top) :].lstrip("/") for top in tops if path.startswith(f"{top}/")), "..")
    parts = path.split("/")
    if ".." in parts or "\0" in path:
        return None
    return PurePosixPath(path).as_posix() if "." in parts or "" in parts else path


def _checked(path: str | None, name: str, number: int, where: Path, root: Path) -> str:
    if path is None:
        raise DataError(f"{where}, line {number}: {name!r} is outside; paths must be below {root}")
    return path


def _is_absolute(path: str) -> bool:
    return path.startswith("/") or re.match("[A-Za-z]:/", path) is not None
