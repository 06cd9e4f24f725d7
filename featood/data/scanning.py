"""Finding the files of a kind below a folder, and counting those that are left out."""

from __future__ import annotations

__all__ = ["Scan", "has_files", "scan", "some", "subfolders"]

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from featood.errors import reading

_COMPANIONS = ("thumbs.db", "desktop.ini")
_SIDE_FILES = frozenset(
    (".txt", ".json", ".jsonl", ".csv", ".tsv", ".xml", ".md", ".yaml", ".yml", ".html", ".lst", ".list")
)


def subfolders(folder: Path) -> set[str]:
    """Return the names of visible folders directly in ``folder``; none if it does not exist."""
    if not folder.is_dir():
        return set()
    with reading(folder):
        return {
            entry.name for entry in os.scandir(folder) if _visible(entry.name) and _kind(entry) == "folder"
        }


@dataclass
class Scan:
    """The entries left out in a scan."""

    skipped: Counter[str] = field(default_factory=Counter)
    dead: list[str] = field(default_factory=list)
    seen_twice: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)

    def notes(self) -> list[str]:
        """Return one line for each kind."""
        notes = []
        if self.skipped:
            side = {suffix: count for suffix, count in self.skipped.items() if suffix in _SIDE_FILES}
            rest = {suffix: count for suffix, count in self.skipped.items() if suffix not in _SIDE_FILES}
            kinds = [_counts(rest)] * bool(rest) + [f"text and tables {_counts(side)}"] * bool(side)
            notes.append(
                f"files skipped because of their extension: {self.skipped.total()} ({'; '.join(kinds)})"
            )
        if self.dead:
            notes.append(f"left out (broken links, or not files): {some(self.dead)}")
        if self.seen_twice:
            notes.append(f"left out (links to folders already read): {some(self.seen_twice)}")
        if self.closed:
            notes.append(f"left out (folders that cannot be opened): {some(self.closed)}")
        return notes


def has_files(folder: Path, suffixes: frozenset[str]) -> bool:
    """Whether there is a file with one of some suffixes below a folder."""
    return next(scan(folder, Scan(), suffixes), None) is not None


def scan(folder: Path, found: Scan, suffixes: frozenset[str]) -> Iterator[str]:
    """Yield the relative paths of such files below ``folder``, and record in ``found`` what is left out.

    Links are followed, but each folder is read once.
    """
    seen: set[tuple[int, int]] = set()
    pending = [""]
    while pending:
        prefix = pending.pop()
        try:
            status = os.stat(folder / prefix)
            if (status.st_dev, status.st_ino) in seen:
                found.seen_twice.append(prefix)
                continue
            seen.add((status.st_dev, status.st_ino))
            entries = sorted(os.scandir(folder / prefix), key=lambda entry: entry.name)
        except OSError:
            found.closed.append(prefix or str(folder))
            continue
        folders = []
        for entry in filter(lambda entry: _visible(entry.name), entries):
            name = f"{prefix}/{entry.name}" if prefix else entry.name
            kind = _kind(entry)
            suffix = os.path.splitext(name)[1].lower()
            if kind == "folder":
                folders.append(name)
            elif kind != "file":
                found.dead.append(name)
            elif suffix in suffixes:
                yield name
            elif entry.name.lower() not in _COMPANIONS:
                found.skipped[suffix or "(none)"] += 1
        pending += reversed(folders)


def _kind(entry: os.DirEntry[str]) -> str:
    try:
        return "folder" if entry.is_dir() else "file" if entry.is_file() else ""
    except OSError:  # circular links
        return ""


def _visible(name: str) -> bool:
    return not name.startswith((".", "__MACOSX"))


def _counts(counts: dict[str, int], most: int = 6) -> str:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    rest = sum(count for _, count in ordered[most:])
    shown = [f"{suffix} {count}" for suffix, count in ordered[:most]]
    return ", ".join([*shown, f"others {rest}"] if rest else shown)


def some(names: Sequence[str], most: int = 3) -> str:
    """Join the first few names."""
    return ", ".join(names[:most]) + f" and {len(names) - most} more" * (len(names) > most)
