"""Verification of all values of a cached set against its commit records."""

from __future__ import annotations

__all__ = ["verify"]

from collections.abc import Callable

from featood.cache.commits import commit_path
from featood.cache.reader import LOCK, open_blocks, read_classifier
from featood.errors import CacheCorrupt, FeatoodError, Mismatch, UsageError
from featood.files import unlock
from featood.objects import Location
from featood.storage import lock, remove


def verify(
    folder: Location, drop: bool = False, progress: Callable[[int, int], None] | None = None
) -> list[FeatoodError]:
    """Read every block of a set, check all values, and return the problems found.

    Parameters
    ----------
    folder : Path or ObjectPath
        The set.
    drop : bool
        Remove the commit records of bad blocks, so that they can be extracted again.
    progress : callable, optional
        Called as ``progress(checked rows, total rows)``.

    Raises
    ------
    OSError, MissingPackage
        If a block cannot be read for a reason other than damage; such blocks are not dropped.
    UsageError
        If blocks are to be dropped from a set that another process is writing.
    """
    held = lock(folder / LOCK) if drop else None
    if drop and held is None:
        raise UsageError(f"another process is writing {folder}; wait for it to end")
    try:
        return _verify(folder, drop, progress)
    finally:
        if held is not None:
            unlock(held)


def _verify(folder: Location, drop: bool, progress: Callable[[int, int], None] | None) -> list[FeatoodError]:
    try:
        manifest, reader = open_blocks(folder)
        read_classifier(folder, manifest)
    except (CacheCorrupt, Mismatch) as error:
        return [error]
    bad: list[FeatoodError] = []
    for block in range(manifest.blocks):
        try:
            for column in manifest.columns:
                reader(column, block)
        except CacheCorrupt as error:
            bad.append(error)
            if drop:
                remove(commit_path(folder / manifest.rows_folder, block))
        if progress is not None:
            progress(reader.store.span(block).stop, manifest.rows)
    return bad
