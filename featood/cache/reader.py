"""Reading of a committed FeatureSet, with every block checked against its commit record."""

from __future__ import annotations

__all__ = [
    "BlockReader",
    "commit_path",
    "committed_blocks",
    "decode_ids",
    "encode_ids",
    "make_store",
    "open_blocks",
    "open_set",
    "read_classifier",
    "read_commit",
]

import itertools
import math
import re
import textwrap
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from featood.cache.columns import StoredColumn
from featood.cache.feature_set import Classifier, FeatureSet
from featood.cache.manifest import Manifest
from featood.cache.stores import STORES, Store
from featood.errors import CacheCorrupt, MissingPackage
from featood.files import digest, read_json, size_of
from featood.records import check_record, whole

LOCK = ".lock"
"""Name of the lock file held by the writer of a set."""
REDO = "run the same extract again to redo this block"
FIELDS = {
    "block": whole(),
    "rows": [whole()],
    "failed": [whole()],
    "columns": {str: whole(0, 2**32 - 1)},
    "files": {str: whole()},
    "fingerprint?": str,
}
"""Schema of a commit record; see `featood.records`."""


def commit_path(folder: Path, block: int) -> Path:
    """Return the path of the commit record of a block."""
    return folder / "commits" / f"{block:05d}.json"


def committed_blocks(folder: Path, manifest: Manifest) -> set[int]:
    """Return the numbers of the blocks that have a record, valid or not."""
    names = (path.stem for path in (folder / "commits").glob("*.json"))
    numbers = {int(name) for name in names if re.fullmatch(r"[0-9]{5,15}", name)}
    return {number for number in numbers if number < manifest.blocks}


def read_commit(folder: Path, store: Store, block: int, fingerprint: str) -> dict[str, Any] | None:
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
            raise CacheCorrupt(f"{_where(folder, store, block)}: file {name} is missing; {REDO}")
        if size != record["files"].get(name):
            wanted = record["files"].get(name)
            raise CacheCorrupt(
                f"{_where(folder, store, block)}: {name} has {size} bytes, not {wanted}; {REDO}"
            )
    return record


def _check_commit(
    record: dict[str, Any], store: Store, block: int, fingerprint: str, path: Path
) -> dict[str, Any]:
    """Return a commit record after checking that it belongs to this block of this set.

    Raises
    ------
    CacheCorrupt
        If a field has an invalid value, the record belongs to another block or set, or its files are too small.
    """
    check_record(record, FIELDS, path, REDO)
    rows = store.span(block)
    here = {
        "block": block,
        "rows": [rows.start, rows.stop],
        "columns": sorted(store.columns),
        "fingerprint": fingerprint,
    }
    there = {
        "fingerprint": fingerprint,
        **record,
        "columns": sorted(record["columns"]),
    }  # records of older versions have none
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


DROP = "drop it with 'featood cache verify --drop', then run the same extract again"


def checksum(values: np.ndarray) -> int:
    """CRC-32 of an array's bytes."""
    return zlib.crc32(np.ascontiguousarray(values).view(np.uint8).data)


def _brief(error: Exception) -> str:
    return textwrap.shorten(str(error), 120, placeholder=" ...")


def _where(folder: Path, store: Store, block: int) -> str:
    rows = store.span(block)
    return f"{folder}: block {block} (rows {rows.start}-{rows.stop - 1})"


class BlockReader:
    """Reads blocks of one set and checks each against its commit record; caches the last block of each column."""

    def __init__(self, folder: Path, store: Store, commits: Sequence[dict[str, Any]]) -> None:
        self.folder, self.store, self.commits = folder, store, commits
        self._last: dict[str, tuple[int, np.ndarray]] = {}

    def __call__(self, column: str, block: int) -> np.ndarray:
        """Return one column of one block.

        Raises
        ------
        CacheCorrupt
            If the block is damaged or its values do not match their checksum.
        OSError, MissingPackage
            If it cannot be read for another reason; see :meth:`featood.cache.stores.Store.read`.
        """
        last = self._last.get(column)
        if last is not None and last[0] == block:
            return last[1]
        where = f"{_where(self.folder, self.store, block)}, column {column}"
        try:
            values = np.ascontiguousarray(self.store.read(column, block))
        except MissingPackage:
            raise
        except ValueError as error:
            raise CacheCorrupt(f"{where}: unreadable ({_brief(error)}); {DROP}") from error
        if checksum(values) != self.commits[block]["columns"][column]:
            raise CacheCorrupt(f"{where}: the values do not match their checksum; {DROP}")
        values.flags.writeable = False
        self._last[column] = (block, values)
        return values


def encode_ids(ids: Sequence[str], width: int) -> np.ndarray:
    """Encode names as ``[N, width]`` UTF-8 bytes padded with NUL, a form that all stores support."""
    fixed = np.array([name.encode("utf-8", "surrogateescape") for name in ids], dtype=f"S{width}")
    return fixed.view(np.uint8).reshape(len(ids), width)


def decode_ids(values: np.ndarray) -> np.ndarray:
    """Decode padded bytes to names."""
    fixed = np.ascontiguousarray(values).view(f"S{values.shape[1]}").reshape(-1)
    return np.array([name.decode("utf-8", "surrogateescape") for name in fixed], dtype=object)


def open_blocks(folder: Path) -> tuple[Manifest, BlockReader]:
    """Read the manifest and every commit record of a set.

    Raises
    ------
    CacheCorrupt
        If a block was never committed, or a file of a committed block is missing or has another size.
    """
    manifest = Manifest.load(folder)
    store = make_store(folder, manifest)
    there = committed_blocks(folder, manifest)
    if len(there) < manifest.blocks:
        first = next(block for block in itertools.count() if block not in there)
        raise CacheCorrupt(
            f"{folder} is incomplete: {len(there)} of {manifest.blocks} blocks are committed, block "
            f"{first} is the first that is not; run the same extract again to finish it"
        )
    found = [read_commit(folder, store, block, manifest.fingerprint) for block in range(manifest.blocks)]
    commits = [record for record in found if record is not None]
    return manifest, BlockReader(folder, store, commits)


def make_store(folder: Path, manifest: Manifest) -> Store:
    """Return the store that a manifest describes."""
    kind = STORES[manifest.store]
    return kind(folder / manifest.store, manifest.columns, manifest.rows, manifest.block_rows)


def open_set(folder: Path, name: str = "") -> FeatureSet:
    """Open a complete cached FeatureSet; columns are read on demand.

    Raises
    ------
    CacheCorrupt
        As in :func:`open_blocks`.
    """
    manifest, reader = open_blocks(folder)
    failed = np.array([row for record in reader.commits for row in record["failed"]], dtype=np.int64)
    kept = np.setdiff1d(np.arange(manifest.rows), failed) if len(failed) else None
    columns = {
        column: StoredColumn(reader, column, kept, decode_ids if column == "ids" else None)
        for column in manifest.columns
    }
    others = {column: columns.pop(column, None) for column in ("logits", "labels", "ids")}
    return FeatureSet(
        features=columns,
        **others,
        classifier=read_classifier(folder, manifest),
        main=manifest.main,
        fingerprint=manifest.backbone_fingerprint,
        name=name or folder.name,
        classes=manifest.classes,
        left_out=len(failed),
        origin=manifest,
        content=_content(manifest, reader),
    )


def _content(manifest: Manifest, reader: BlockReader) -> str:
    """Return a digest of the checksums in the commit records, which is independent of the store."""
    blocks = [[record["columns"], record["failed"]] for record in reader.commits]
    return digest([manifest.rows, manifest.classifier_sha256, blocks])


def read_classifier(folder: Path, manifest: Manifest) -> Classifier | None:
    """Read the classifier of a set; return None if it has none.

    Raises
    ------
    CacheCorrupt
        If its file is missing or damaged.
    """
    if not manifest.classifier_sha256:
        return None
    import hashlib

    from safetensors import SafetensorError
    from safetensors.numpy import load

    path = folder / "classifier.safetensors"
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise CacheCorrupt(f"{path} is missing; extract this set again with --overwrite") from None
    if hashlib.sha256(content).hexdigest() != manifest.classifier_sha256:
        raise CacheCorrupt(f"{path} does not match its checksum; extract this set again with --overwrite")
    try:
        tensors = load(content)
        classifier = Classifier(tensors["weight"], tensors["bias"])
    except (SafetensorError, LookupError, TypeError, ValueError):
        raise CacheCorrupt(
            f"{path} holds no weight and bias; extract this set again with --overwrite"
        ) from None
    if classifier.weight.ndim != 2 or classifier.bias.shape != classifier.weight.shape[:1]:
        raise CacheCorrupt(
            f"{path} holds no weight [C, D] and bias [C]; extract this set again with --overwrite"
        )
    return classifier
