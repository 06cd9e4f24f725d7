"""Conversion of a set of the earlier layout to the current one; a kill at any time loses nothing.

Both layouts of a set use other folders. The blocks are written again, and their records list the files of both; then
the manifest is replaced, from which moment the set has the current layout; then the old files are removed.
"""

from __future__ import annotations

__all__ = ["convert", "convert_set"]

import dataclasses
from collections.abc import Callable

from featood.cache.commits import commit_block, commit_path, committed_blocks, read_commit
from featood.cache.manifest import SCHEMA, Manifest
from featood.cache.reader import LOCK, BlockReader, make_store
from featood.errors import CacheCorrupt, UsageError
from featood.files import unlock
from featood.objects import Location
from featood.sealed import read_json
from featood.storage import children, lock, remove, write_json


def convert_set(folder: Location, progress: Callable[[int, int], None] | None = None) -> bool:
    """Convert a set, or remove what an interrupted conversion has left; return whether there was something to do.

    Parameters
    ----------
    folder : Path or ObjectPath
        The set, whose values have been verified.
    progress : callable, optional
        Called as ``progress(converted rows, total rows)``.

    Raises
    ------
    UsageError
        If another process is writing the set.
    """
    held = lock(folder / LOCK)
    if held is None:
        raise UsageError(f"another process is writing {folder}; wait for it to end")
    try:
        manifest = Manifest.load(folder)
        if manifest.schema == SCHEMA and not children(folder / manifest.store):
            return False
        convert(folder, manifest, progress)
        return True
    finally:
        unlock(held)


def convert(
    folder: Location, manifest: Manifest, progress: Callable[[int, int], None] | None = None
) -> Manifest:
    """Convert the committed blocks of a set whose lock is held, and return the new manifest.

    Damaged blocks lose their record, so that the next extraction writes them again.
    """
    current = dataclasses.replace(manifest, schema=SCHEMA)
    store = make_store(folder, current)
    if manifest.schema < SCHEMA:
        store.create()
        for block in sorted(committed_blocks(folder, manifest)):
            try:
                _convert_block(folder, manifest, current, block)
            except CacheCorrupt:
                remove(commit_path(folder, block))
            if progress is not None:
                progress(store.span(block).stop, manifest.rows)
        if len(committed_blocks(folder, manifest)) == manifest.blocks:
            store.finish()
        current.save(folder)
    for block in committed_blocks(folder, manifest):
        record = read_json(path := commit_path(folder, block))
        names = [file.relative_to(folder).as_posix() for file in store.files(block)]
        sizes = {name: size for name, size in record["files"].items() if name in names}
        write_json(path, {**record, "files": sizes})
    remove(folder / manifest.store)
    return current


def _convert_block(folder: Location, manifest: Manifest, current: Manifest, block: int) -> None:
    store, earlier = make_store(folder, current), make_store(folder, manifest)
    record = read_commit(folder, earlier, block, manifest.fingerprint)
    if record is None:
        return
    reader = BlockReader(folder, earlier, {block: record})
    values = {name: reader(name, block) for name in manifest.columns}
    commit_block(folder, store, block, values, record["failed"], manifest.fingerprint, record["files"])
