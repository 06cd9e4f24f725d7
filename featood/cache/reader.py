"""Reading of a committed FeatureSet, with every block checked against its commit record."""

from __future__ import annotations

__all__ = [
    "CLASSIFIER",
    "BlockReader",
    "decode_ids",
    "encode_ids",
    "failed_rows",
    "make_store",
    "open_blocks",
    "open_set",
    "read_classifier",
    "stored_columns",
]

import itertools
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from featood.cache.byte_ranges import Place, read_runs
from featood.cache.columns import StoredColumn
from featood.cache.commits import commit_path, committed_blocks, read_commit, where
from featood.cache.earlier import EARLIER_STORES
from featood.cache.feature_set import Classifier, FeatureSet
from featood.cache.manifest import SCHEMA, Manifest
from featood.cache.stores import STORES, Store
from featood.errors import CacheCorrupt, Mismatch, MissingPackage
from featood.objects import Location
from featood.sealed import digest
from featood.storage import each, size_of

LOCK = ".lock"
"""Name of the lock file held by the writer of a set."""
COLUMNS = "columns"
"""Name of the folder of the store."""
CLASSIFIER = "classifier.safetensors"
"""Name of the file of the classifier."""
CALL = 2**14
"""Bytes of adjacent rows that are read in the time of one call."""
DROP = "drop it with 'featood cache verify --drop', then run the same extract again"


def _brief(error: Exception) -> str:
    return textwrap.shorten(str(error), 120, placeholder=" ...")


class BlockReader:
    """Reads blocks of one set and checks each against its commit record; caches the last block of each column.

    Rows of a block that has been checked are read alone, as a file under its final name never changes.
    """

    def __init__(self, folder: Location, store: Store, commits: Mapping[int, dict[str, Any]]) -> None:
        self.folder, self.store, self.commits = folder, store, commits
        self._last: dict[str, tuple[int, np.ndarray]] = {}
        self._checked: dict[tuple[str, int], Place | None] = {}

    def __call__(self, column: str, block: int) -> np.ndarray:
        """Return one column of one block, read-only.

        Raises
        ------
        CacheCorrupt
            If the block is damaged or its values do not match their checksum.
        Mismatch
            If the set was replaced or removed after it was opened.
        OSError, MissingPackage
            If it cannot be read for another reason; see :meth:`featood.cache.stores.Store.locate`.
        """
        last = self._last.get(column)
        if last is None or last[0] != block:
            values = np.empty(self.store.shape(column, block), self.store.columns[column].dtype)
            self._read(column, block, values)
            values.flags.writeable = False
            self._last[column] = last = block, values
        return last[1]

    def rows(self, column: str, block: int, rows: np.ndarray, out: np.ndarray) -> None:
        """Read some rows of a block, ascending and counted from its start, into `out`; errors as above."""
        ends = np.flatnonzero(np.diff(rows, append=-1) != 1) + 1
        runs = [(int(rows[start]), int(rows[stop - 1]) + 1) for start, stop in itertools.pairwise([0, *ends])]
        (total, *_), last = self.store.shape(column, block), self._last.get(column)
        if last is not None and last[0] == block:
            np.take(last[1], rows, axis=0, out=out, mode="clip")
        elif runs == [(0, total)]:
            self._read(column, block, out)
        elif (place := self._checked.get((column, block))) and _fewer(out, len(runs), total):
            with self._damage(column, block):
                read_runs(place, runs, out)
        else:
            np.take(self(column, block), rows, axis=0, out=out, mode="clip")

    def _read(self, column: str, block: int, out: np.ndarray) -> None:
        """Read and check a whole block."""
        with self._damage(column, block):
            found, place = self.store.read(column, block, out)
        if found != self.commits[block][self.store.checksums][column]:
            raise CacheCorrupt(
                f"{self._where(column, block)}: the values do not match their checksum; {DROP}"
            )
        self._checked[column, block] = place

    @contextmanager
    def _damage(self, column: str, block: int) -> Iterator[None]:
        """Convert ValueError to CacheCorrupt that names the block, or to Mismatch if its record is gone, too."""
        try:
            yield
        except MissingPackage:
            raise
        except ValueError as error:
            if size_of(commit_path(self.folder, block)) is None:
                raise Mismatch(
                    f"{self._where(column, block)}: the set was replaced or removed after it was opened; open it again"
                ) from error
            raise CacheCorrupt(
                f"{self._where(column, block)}: unreadable ({_brief(error)}); {DROP}"
            ) from error

    def _where(self, column: str, block: int) -> str:
        return f"{where(self.folder, self.store, block)}, column {column}"


def _fewer(out: np.ndarray, calls: int, total: int) -> bool:
    """Whether reading the rows of `out` by some calls is cheaper than reading all rows of the block."""
    return out.nbytes + calls * CALL < out.nbytes // len(out) * total


def encode_ids(ids: Sequence[str], width: int) -> np.ndarray:
    """Encode names as ``[N, width]`` UTF-8 bytes padded with NUL, a form that all stores support."""
    fixed = np.array([name.encode("utf-8", "surrogateescape") for name in ids], dtype=f"S{width}")
    return fixed.view(np.uint8).reshape(len(ids), width)


def decode_ids(values: np.ndarray) -> np.ndarray:
    """Decode padded bytes to names."""
    fixed = np.ascontiguousarray(values).view(f"S{values.shape[1]}").reshape(-1)
    return np.array([name.decode("utf-8", "surrogateescape") for name in fixed], dtype=object)


def open_blocks(folder: Location, manifest: Manifest | None = None) -> tuple[Manifest, BlockReader]:
    """Read the manifest, unless it is given, and every commit record of a set.

    Raises
    ------
    CacheCorrupt
        If a block was never committed, or a file of a committed block is missing or has another size.
    """
    manifest = manifest or Manifest.load(folder)
    store = make_store(folder, manifest)
    there = committed_blocks(folder, manifest)
    if len(there) < manifest.blocks:
        first = next(block for block in itertools.count() if block not in there)
        raise CacheCorrupt(
            f"{folder} is incomplete: {len(there)} of {manifest.blocks} blocks are committed, block "
            f"{first} is the first that is not; run the same extract again to finish it"
        )
    place, fingerprint = folder / manifest.rows_folder, manifest.fingerprint
    found = each(folder, lambda block: read_commit(place, store, block, fingerprint), range(manifest.blocks))
    commits = {block: record for block, record in enumerate(found) if record is not None}
    return manifest, BlockReader(place, store, commits)


def make_store(folder: Location, manifest: Manifest) -> Store:
    """Return the store that a manifest describes."""
    earlier = manifest.schema < SCHEMA
    kind = (EARLIER_STORES if earlier else STORES)[manifest.store]
    place = folder / manifest.rows_folder / (manifest.store if earlier else COLUMNS)
    return kind(place, manifest.columns, manifest.rows, manifest.block_rows)


def open_set(folder: Location, name: str = "") -> FeatureSet:
    """Open a complete cached FeatureSet; columns are read on demand.

    Raises
    ------
    CacheCorrupt
        As in :func:`open_blocks`.
    """
    manifest, reader = open_blocks(folder)
    failed = failed_rows(reader)
    kept = np.setdiff1d(np.arange(manifest.rows), failed) if len(failed) else None
    columns: dict[str, Any] = dict(stored_columns(reader, kept))
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


def stored_columns(reader: BlockReader, kept: np.ndarray | None = None) -> dict[str, StoredColumn]:
    """Return the columns of a set by name, with all stored rows or those that are listed in `kept`."""
    return {
        column: StoredColumn(reader, column, kept, decode_ids if column == "ids" else None)
        for column in reader.store.columns
    }


def failed_rows(reader: BlockReader) -> np.ndarray:
    """Return the stored rows whose input could not be read."""
    return np.array([row for record in reader.commits.values() for row in record["failed"]], dtype=np.int64)


def _content(manifest: Manifest, reader: BlockReader) -> str:
    """Return a digest of the CRC-32 in the commit records, which is independent of store and layout."""
    blocks = [[record["columns"], record["failed"]] for record in reader.commits.values()]
    return digest([manifest.rows, manifest.classifier_sha256, blocks])


def read_classifier(folder: Location, manifest: Manifest) -> Classifier | None:
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

    path = folder / manifest.rows_folder / CLASSIFIER
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
