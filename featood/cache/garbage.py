"""Removal of leftover files of killed processes from a cache, but nothing that is in use."""

from __future__ import annotations

__all__ = ["collect", "garbage", "remove_set"]

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from featood.cache.commits import committed_blocks, remove_commits
from featood.cache.feature_cache import HEADS, MAPS
from featood.cache.manifest import FILE, ROWS, Manifest
from featood.cache.reader import LOCK
from featood.errors import FeatoodError, UsageError
from featood.files import TEMPORARY, unlock
from featood.objects import Location, ObjectPath
from featood.storage import children, folders_below, lock, remove, size_of

SCRATCH = (TEMPORARY, ".partial")
"""Suffixes of temporary files: featood's, and zarr's in caches of older versions."""


def garbage(root: Location, incomplete: bool = False, older_than: float = 3600.0) -> list[Path]:
    """List what ``gc`` may remove: temporary files of killed writers and, on request, incomplete sets and appends.

    Nothing is listed that is locked by a process, or that changed within `older_than` seconds; on a file
    system without locks, and for fitted heads, age is the only criterion.

    Raises
    ------
    UsageError
        On object storage.
    """
    if isinstance(root, ObjectPath):
        raise UsageError(
            "killed processes leave no temporary files on object storage; remove incomplete sets with featood cache rm"
        )
    rubbish: list[Path] = []
    for folder in folders_below(root, 3):
        if folder.name in (HEADS, MAPS) or folder.parent.name == HEADS:
            rubbish += [path for path in _scratch(folder) if _age(path) >= older_than]
            continue
        with _locked(folder) as free:
            if free and incomplete and not _complete(folder):
                rubbish += [folder] if _age(folder) >= older_than else []
            elif free:
                found = [*_scratch(folder), *(_other_rows(folder) if incomplete else [])]
                rubbish += [path for path in found if _age(path) >= older_than]
    return rubbish


def collect(rubbish: Sequence[Path]) -> list[Path]:
    """Remove what :func:`garbage` listed, except sets that a process has started to write or finished since.

    Returns
    -------
    list of Path
        The sets that were kept for this reason.
    """
    left = []
    for path in rubbish:
        if not path.is_dir() or path.name.endswith(SCRATCH):
            remove(path)
            continue
        rows = size_of(path.parent / FILE) is not None
        with _locked(path.parent if rows else path) as free:
            unfinished = free and (path in _other_rows(path.parent) if rows else not _complete(path))
            if unfinished:
                _empty(path)
        if unfinished and rows:
            remove(path)
        elif unfinished:
            _remove_emptied(path)
        else:
            left.append(path)
    return left


def remove_set(folder: Location) -> None:
    """Remove a set, damaged or not.

    Raises
    ------
    UsageError
        If a process is writing it.
    """
    with _locked(folder) as free:
        if not free:
            raise UsageError(f"another process is writing {folder}; wait for it to end")
        _empty(folder)
    _remove_emptied(folder)


def _empty(folder: Location) -> None:
    """Remove everything except the lock, records first, so that a kill cannot leave a set that looks complete."""
    remove_commits(folder)
    for child in children(folder):
        if child.name != LOCK:
            remove(child)


def _remove_emptied(folder: Location) -> None:
    if [child.name for child in children(folder)] == [LOCK]:
        remove(folder)


@contextmanager
def _locked(folder: Location) -> Iterator[bool]:
    """Hold a set's lock; yield whether it was free."""
    held = lock(folder / LOCK)
    try:
        yield held is not None
    finally:
        if held is not None:
            unlock(held)


def _scratch(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.endswith(SCRATCH)]


def _other_rows(folder: Path) -> list[Path]:
    """List rows next to those of a set: to replace them, but never completed, or replaced by them."""
    try:
        current = Manifest.load(folder).rows_folder
    except FeatoodError:
        return []
    others = [child for child in children(folder) if child.name not in (LOCK, FILE, current)]
    return [
        child
        for child in others
        if (current or child.name.startswith(ROWS)) and not child.name.endswith(SCRATCH)
    ]


def _complete(folder: Path) -> bool:
    try:
        manifest = Manifest.load(folder)
    except FeatoodError:
        return False
    return len(committed_blocks(folder, manifest)) == manifest.blocks


def _age(path: Path) -> float:
    """Seconds since a file, or anything in a folder, last changed; 0 if it is changing now."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.name != LOCK]
    try:
        return time.time() - max((file.stat().st_mtime for file in files), default=0.0)
    except FileNotFoundError:
        return 0.0
