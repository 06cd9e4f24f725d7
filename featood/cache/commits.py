"""Commit records: a block is valid only with its record, which has its rows, checksums and file sizes."""

from __future__ import annotations

__all__ = [
    "COMMITS",
    "commit_block",
    "commit_folders",
    "commit_path",
    "committed_blocks",
    "read_commit",
    "remove_commits",
    "where",
]

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from featood.cache.byte_ranges import crc32, crc32c
from featood.cache.manifest import ROWS, Manifest
from featood.cache.stores import Store
from featood.errors import CacheCorrupt
from featood.objects import Location
from featood.records import check_record, whole
from featood.sealed import read_json
from featood.storage import children, remove, size_of, write_json

COMMITS = "commits"
"""Name of the folder of the records."""
REDO = "run the same extract again to redo this block"
FIELDS = {
    "block": whole(),
    "rows": [whole()],
    "failed": [whole()],
    "columns": {str: whole(0, 2**32 - 1)},
    "crc32c?": {str: whole(0, 2**32 - 1)},
    "files": {str: whole()},
    "fingerprint?": str,
}
"""Schema of a commit record; see `featood.records`.

``columns`` has the CRC-32 of each column, which identifies its values in every layout; ``crc32c``, which records of the
earlier layout do not have, is compared when a block is read.
"""


def commit_path(folder: Location, block: int) -> Any:
    """Return the path of the commit record of a block."""
    return folder / COMMITS / f"{block:05d}.json"


def commit_folders(folder: Location) -> list[Any]:
    """List the folders of records of a set: its own, and those next to it for rows that replace its rows."""
    others = [child for child in children(folder) if child.name.startswith(ROWS)]
    return [place / COMMITS for place in (folder, *others)]


def remove_commits(folder: Location) -> None:
    """Remove all records of a set, so that no block of it is valid."""
    for place in commit_folders(folder):
        remove(place)


def committed_blocks(folder: Location, manifest: Manifest) -> set[int]:
    """Return the numbers of the blocks that have a record, valid or not."""
    names = (path.name for path in children(folder / manifest.rows_folder / COMMITS))
    numbers = {int(name[:-5]) for name in names if re.fullmatch(r"[0-9]{5,15}\.json", name)}
    return {number for number in numbers if number < manifest.blocks}


def read_commit(folder: Location, store: Store, block: int, fingerprint: str) -> dict[str, Any] | None:
    """Return a block's commit record, None where it was never committed.

    Raises
    ------
    CacheCorrupt
        If the record was altered or belongs to another block or set, or a file in it is missing or has another size.
    OSError
        If this cannot be determined.
    """
    path = commit_path(folder, block)
    if size_of(path) is None:
        return None
    record = _check_commit(read_json(path), store, block, fingerprint, path)
    for file in store.files(block):
        name = file.relative_to(folder).as_posix()
        size = size_of(file)
        if size is None:
            raise CacheCorrupt(f"{where(folder, store, block)}: file {name} is missing; {REDO}")
        if size != record["files"].get(name):
            wanted = record["files"].get(name)
            raise CacheCorrupt(
                f"{where(folder, store, block)}: {name} has {size} bytes, not {wanted}; {REDO}"
            )
    return record


def _check_commit(
    record: dict[str, Any], store: Store, block: int, fingerprint: str, path: Location
) -> dict[str, Any]:
    """Return a commit record after checking that it belongs to this block of this set.

    Raises
    ------
    CacheCorrupt
        If a field has an invalid value, the record belongs to another block or set, or its files are too small.
    """
    check_record(record, FIELDS, path, REDO)
    rows = store.span(block)
    sums = ("columns", store.checksums)
    here = {
        "block": block,
        "rows": [rows.start, rows.stop],
        "fingerprint": fingerprint,
        **dict.fromkeys(sums, sorted(store.columns)),
    }
    there = {
        "fingerprint": fingerprint,
        **record,
        **{name: sorted(record.get(name, {})) for name in sums},
    }  # records of older versions have no fingerprint
    for field, value in here.items():
        if there[field] != value:
            raise CacheCorrupt(f"{path}: {field} is not that of block {block} of this set; {REDO}")
    if not all(rows.start <= row < rows.stop for row in record["failed"]):
        raise CacheCorrupt(f"{path}: failed has rows of another block than {block}; {REDO}")
    # nothing is compressed, so that small files cannot cause large memory allocations
    wide = (math.prod(spec.shape) * np.dtype(spec.dtype).itemsize for spec in store.columns.values())
    if sum(record["files"].values()) < (needed := (rows.stop - rows.start) * sum(wide)):
        raise CacheCorrupt(f"{path}: files are too small for {needed} bytes of values; {REDO}")
    return record


def commit_block(
    folder: Location,
    store: Store,
    block: int,
    values: Mapping[str, np.ndarray],
    failed: Sequence[int],
    fingerprint: str,
    files: Mapping[str, int] | None = None,
) -> None:
    """Write a block, and then its commit record.

    Parameters
    ----------
    folder : Path or ObjectPath
        Folder of the set, or that of its rows.
    store : Store
        Its store.
    block : int
        Number of the block.
    values : mapping of str to array
        Every column, with the shapes and types of the store.
    failed : sequence of int
        Rows whose input could not be read.
    fingerprint : str
        Fingerprint of the set.
    files : mapping of str to int, optional
        Sizes of other files of the block, which the record keeps.
    """
    store.write(block, values)
    sizes = {file.relative_to(folder).as_posix(): size_of(file) for file in store.files(block)}
    record = {
        "block": block,
        "fingerprint": fingerprint,
        "rows": [store.span(block).start, store.span(block).stop],
        "failed": [int(row) for row in failed],
        "columns": {name: crc32(array) for name, array in values.items()},
        "crc32c": {name: crc32c(array) for name, array in values.items()},
        "files": {**(files or {}), **sizes},
    }
    write_json(commit_path(folder, block), record)


def where(folder: Location, store: Store, block: int) -> str:
    """Name a block in a message."""
    rows = store.span(block)
    return f"{folder}: block {block} (rows {rows.start}-{rows.stop - 1})"
