"""Folders of inputs of any kind, with or without class folders."""

from __future__ import annotations

__all__ = [
    "FolderKind",
    "folder_labels",
    "inner_folder",
    "read_folder",
    "split_folder",
    "whole_folder",
]

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from featood.data.layouts import SPLITS, Loader, choice, find_split, noting
from featood.data.scanning import Scan, has_files, scan, some, subfolders
from featood.errors import DataError


class FolderKind(NamedTuple):
    """What a folder is searched for."""

    title: str
    suffixes: frozenset[str]
    make: Callable[..., Any]
    """Makes the set from ``ids`` and ``root``, and ``labels``, ``classes`` and ``notes``."""


def split_folder(folder: Path, split: str, kind: FolderKind, lenient: bool = False) -> Loader | None:
    """Layout ``FOLDER/<split>/``, with labels from ``<class>/*``.

    The label is the rank of the class among the class folders of all splits. Inputs without class folders, or within a
    single folder, have no labels. See :func:`read_folder` for ``lenient``.
    """
    inner = _split_folders(folder, kind).get(split) if split in SPLITS else find_split(folder, split)
    if inner is None or not has_files(inner, kind.suffixes):
        return None
    return noting(partial(read_folder, inner, kind, folder, lenient), *choice(inner, split))


def whole_folder(folder: Path, split: str, kind: FolderKind, lenient: bool = False) -> Loader | None:
    """Layout of FOLDER itself as ``test``, if it has no folders named like splits."""
    if split != "test" or _split_folders(folder, kind) or not has_files(folder, kind.suffixes):
        return None
    return partial(read_folder, folder, kind, lenient=lenient)


def inner_folder(folder: Path, split: str, kind: FolderKind, names: Sequence[str]) -> Loader | None:
    """Layout of a folder within FOLDER, the first of `names` that exists, as ``test``."""
    found = next((folder / name for name in names if (folder / name).is_dir()), None)
    return None if found is None or split != "test" else partial(read_folder, found, kind)


def _split_folders(folder: Path, kind: FolderKind) -> dict[str, Path]:
    """Find the folders named like splits.

    ``valid`` or ``dev`` may also be a class: it counts as one if it is the only such folder among others with
    files of the kind.
    """
    found = {split: path for split in SPLITS if (path := find_split(folder, split))}
    if len(found) == 1:
        ((split, path),) = found.items()
        others = subfolders(folder) - {path.name} if path.name.lower() != split else ()
        if any(has_files(folder / name, kind.suffixes) for name in others):
            return {}
    return found


def read_folder(folder: Path, kind: FolderKind, base: Path | None = None, lenient: bool = False) -> Any:
    """Read every input of a kind below ``folder``, in the order of their paths.

    Class folders are numbered in the order of their names, or numerically if these are 0 to C-1 or 1 to C.

    Parameters
    ----------
    folder : Path
        The folder of one split.
    kind : FolderKind
        What to read.
    base : Path, optional
        The parent folder; classes of its other splits are included, so that an index is the same class in all splits.
    lenient : bool
        Also number class folders without inputs in any split, for callers that match classes by name.

    Raises
    ------
    DataError
        If there are class folders without inputs, and not `lenient`: whether they are classes is unknown.
    """
    found = Scan()
    ids = tuple(sorted(scan(folder, found, kind.suffixes)))
    own = subfolders(folder)
    used = {name.partition("/")[0] for name in ids if "/" in name}
    others = [path for path in (_split_folders(base, kind).values() if base else ()) if path != folder]
    # a single folder (`images/`) is not a class
    elsewhere = {name for names in map(subfolders, others) if len(names) > 1 for name in names}
    classes = in_class_order(elsewhere | (own if len(own) > 1 else set()))
    flat = [name for name in ids if "/" not in name]
    alone = len(used) == 1 and own != used and not used <= elsewhere
    notes = found.notes()
    if flat and len(used) > 1:
        notes.append(f"no labels: {flat[0]} is beside the class folders, not in one")
    elif alone and not flat:
        notes.append(f"no labels: only the folder {min(used)} contains {kind.title}")
    if flat or alone or not used <= set(classes):
        return kind.make(ids=ids, root=folder, notes=tuple(notes))
    if empty := sorted(own - used):
        nowhere = [
            name for name in empty if not any(has_files(split / name, kind.suffixes) for split in others)
        ]
        if nowhere and not lenient and not _numbered(classes):
            raise DataError(
                f"{folder}: class folders without {kind.title} ({some(nowhere)}) would shift the labels; "
                f"remove them, or give the order of the classes"
            )
        notes.append(f"class folders without {kind.title} here: {some(empty)}")
    return kind.make(
        ids=ids,
        labels=folder_labels(ids, classes),
        classes=tuple(classes),
        root=folder,
        notes=(*notes, *_numbering(classes)),
    )


def in_class_order(names: Iterable[str]) -> list[str]:
    """Sort class names: numerically if they are 0 to C-1 or 1 to C, otherwise as text."""
    ordered = sorted(names)
    return sorted(ordered, key=int) if _numbered(ordered) else ordered


def _numbered(names: Sequence[str]) -> bool:
    if not all(name.isascii() and name.isdigit() for name in names):
        return False
    numbers = sorted(map(int, names))
    return numbers in (list(range(len(names))), list(range(1, len(names) + 1)))


def _numbering(classes: Sequence[str]) -> list[str]:
    """Return a note about the order of class folders with numbers as names, if it is ambiguous."""
    if not classes or not all(name.isascii() and name.isdigit() for name in classes):
        return []
    if _numbered(classes):
        first = int(classes[0])
        span = f"class folders are numbered {classes[0]} to {classes[-1]}"
        if first or list(classes) != sorted(classes):
            return [f"{span}: indices follow the numbers" + (", minus one" if first else "")]
        return []
    return [
        f"names of class folders are numbers, but not 0 to {len(classes) - 1}: indices follow the order "
        "of text; give the order of the classes if it differs"
    ]


def folder_labels(ids: Iterable[str], classes: Sequence[str]) -> np.ndarray:
    """Return the rank of the first folder of each path among ``classes``, int64 [N]."""
    rank = {name: index for index, name in enumerate(classes)}
    return np.array([rank[name.partition("/")[0]] for name in ids], np.int64)
