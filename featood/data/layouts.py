"""Layouts of sets on disk, and names of splits.

A layout is a function of a folder and a split. It checks quickly whether its files exist, and returns the function that
reads them, or None. It raises a DataError if files exist but cannot be used, which is reported only if no other layout
finds anything.
"""

from __future__ import annotations

__all__ = ["SPLITS", "Layout", "Loader", "canonical", "choice", "find_split", "noting"]

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Loader = Callable[[], Any]
"""Returns an :class:`~featood.data.InputSet`."""
Layout = Callable[[Path, str], Loader | None]
SPLITS = ("train", "val", "test")
_ALIASES = {
    "training": "train",
    "validation": "val",
    "valid": "val",
    "dev": "val",
    "eval": "val",
    "testing": "test",
}


def canonical(name: str) -> str:
    """Return the standard name of a split (``val`` for ``Validation``); other names stay unchanged."""
    lower = name.lower()
    return _ALIASES.get(lower, lower if lower in SPLITS else name)


def find_split(folder: Path, split: str, suffixes: tuple[str, ...] = ("",)) -> Path | None:
    """Find the file (or, without suffixes, the folder) of a split under one of its usual names.

    The standard name precedes others, and lower case precedes upper case.
    """
    return next(_candidates(folder, split, suffixes), None)


def _candidates(folder: Path, split: str, suffixes: tuple[str, ...]) -> Iterator[Path]:
    names = [split, *(name for name, meant in _ALIASES.items() if meant == split)]
    cases = [case for name in names for case in (name, name.capitalize(), name.upper())]
    for case in cases if split in SPLITS else [split]:
        for suffix in suffixes:
            for ending in dict.fromkeys((suffix, suffix.upper())):
                path = folder / (case + ending)
                if path.is_file() if suffix else path.is_dir():
                    yield path


def noting(loader: Loader, *notes: str) -> Loader:
    """Return a loader that adds notes to the set."""
    return lambda: loader().with_notes(*notes)


def choice(path: Path, split: str, suffixes: tuple[str, ...] = ("",)) -> list[str]:
    """Return notes about a split that is read from a file or folder of another name, and about those ignored."""
    others = [other for other in _candidates(path.parent, split, suffixes) if not other.samefile(path)]
    passed = ", ".join(dict.fromkeys(other.name for other in others))
    notes = [] if path.stem.lower() == split else [f"the split {split} is read from {path.name}"]
    return notes + [f"ignored, because {path.name} is there: {passed}"] * bool(passed)
