"""Writing of a FeatureSet block by block, so that a kill at any time loses at most the current block."""

from __future__ import annotations

__all__ = ["SetWriter"]

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from featood.cache.commits import COMMITS, commit_block, read_commit, remove_commits
from featood.cache.conversion import convert
from featood.cache.feature_set import Classifier, FeatureSet
from featood.cache.manifest import FILE, ROWS, SCHEMA, Manifest, differing
from featood.cache.reader import CLASSIFIER, LOCK, make_store, open_blocks, open_set
from featood.cache.stores import ZarrStore
from featood.errors import CacheCorrupt, DataError, Mismatch, UsageError
from featood.files import unlock
from featood.objects import Location, ObjectPath
from featood.storage import atomic_write, children, each, lock, make_folder, remove, size_of


class SetWriter:
    """Writes the missing blocks of one cached set.

    Two writers of one set are safe: the values of a block are determined by the manifest, files appear under
    their final names only when complete, and a block is valid only with its commit record. The lock only avoids
    duplicate work, so it does not matter if a file system ignores it, and object storage has none.

    Parameters
    ----------
    folder : Path or ObjectPath
        Folder of the set.
    manifest : Manifest
        Manifest of the set; an interrupted extraction to be resumed must have the same.
    classifier : Classifier, optional
        Weight ``[C, D]`` and bias ``[C]``.
    overwrite : bool
        Replace a set with another recipe in the folder.
    earlier : Manifest, optional
        Manifest of the set in the folder, which remains as it is until :meth:`finish` replaces it.

    Raises
    ------
    Mismatch
        If the folder contains a set with another fingerprint than that of the manifest or of `earlier`, and `overwrite`
        is off.
    UsageError
        If another process is writing this set, or its store is not for object storage.
    """

    def __init__(
        self,
        folder: Location,
        manifest: Manifest,
        classifier: Classifier | None = None,
        overwrite: bool = False,
        earlier: Manifest | None = None,
    ) -> None:
        if isinstance(folder, ObjectPath) and manifest.store != ZarrStore.kind:
            raise UsageError("sets on object storage are zarr sets; leave out --store hdf5")
        self.folder = folder
        make_folder(folder)
        self._lock = lock(folder / LOCK)
        if self._lock is None:
            raise UsageError(f"another process is writing {folder}; wait for it to end")
        try:
            self._prepare(manifest, classifier, overwrite, earlier)
        except BaseException:
            self.__exit__()
            raise

    def _prepare(
        self, manifest: Manifest, classifier: Classifier | None, overwrite: bool, earlier: Manifest | None
    ) -> None:
        """Create the files of the set, the manifest last."""
        folder = self.folder
        if classifier is not None:
            content = _classifier_bytes(classifier)
            manifest = dataclasses.replace(manifest, classifier_sha256=hashlib.sha256(content).hexdigest())
        there = None if overwrite or size_of(folder / FILE) is None else Manifest.load(folder)
        self._replaced = None
        if earlier is not None and there is not None and there.fingerprint != manifest.fingerprint:
            _check_kept(folder, there, earlier)
            self._replaced = there
            manifest = dataclasses.replace(manifest, rows_folder=f"{ROWS}{manifest.fingerprint[:12]}")
        elif overwrite:
            _clear(folder)
        elif there is not None:
            manifest = _same(manifest, there, folder)
        self.manifest, self._fingerprint = manifest, manifest.fingerprint
        self.store, self.rows_folder = make_store(folder, manifest), folder / manifest.rows_folder
        if manifest.schema < SCHEMA and self.pending():
            self.manifest = manifest = convert(folder, manifest)
            self.store = make_store(folder, manifest)
        self.store.create()
        if classifier is not None:
            atomic_write(self.rows_folder / CLASSIFIER, content)
        if size_of(folder / FILE) is None:
            manifest.save(folder)

    def __getstate__(self) -> dict[str, Any]:
        """Exclude the lock: a copy in another process writes blocks, while this process keeps the set locked."""
        return {**vars(self), "_lock": None}

    def __enter__(self) -> SetWriter:
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            unlock(self._lock)
            self._lock = None

    def pending(self) -> list[int]:
        """Blocks that have no valid commit record."""
        blocks = range(self.manifest.blocks)
        return [block for block, done in enumerate(each(self.folder, self._committed, blocks)) if not done]

    def _committed(self, block: int) -> bool:
        try:
            return read_commit(self.rows_folder, self.store, block, self._fingerprint) is not None
        except CacheCorrupt:
            return False

    def span(self, block: int) -> slice:
        """Return the rows of a block."""
        return self.store.span(block)

    def write(self, block: int, columns: Mapping[str, np.ndarray], failed: Sequence[int] = ()) -> None:
        """Write and commit one block, unless another writer has already done so.

        Parameters
        ----------
        block : int
            Its number.
        columns : mapping of str to array
            Every column of the manifest, ``[rows of the block, ...]``.
        failed : sequence of int
            Rows (counted from the start of the set) whose input could not be read; readers skip them.

        Raises
        ------
        DataError
            If a value does not fit the column's dtype, or is not finite.
        """
        if self._committed(block):
            return
        values = {}
        for name, spec in self.manifest.columns.items():
            values[name] = _checked(name, columns[name], spec.dtype, block, self.span(block).start, failed)
        commit_block(self.rows_folder, self.store, block, values, failed, self._fingerprint)

    def finish(self, name: str = "") -> FeatureSet:
        """Close the set and open it for reading.

        Raises
        ------
        CacheCorrupt
            If a block is missing.
        Mismatch
            If another process has replaced the set in the meantime.
        """
        if self._replaced is not None:
            self._replace(self._replaced)
        _same(self.manifest, Manifest.load(self.folder), self.folder)
        feature_set = open_set(self.folder, name)
        self.store.finish()
        return feature_set

    def _replace(self, there: Manifest) -> None:
        """Replace the set in the folder, which changes at once from the old rows to the new ones."""
        open_blocks(self.folder, self.manifest)
        self.store.finish()  # programs that read the set by its files need what this writes
        _check_kept(self.folder, Manifest.load(self.folder), there)
        self.manifest.save(self.folder)
        self._replaced = None
        _remove_rows(self.folder, there)


def _check_kept(folder: Location, there: Manifest, earlier: Manifest) -> None:
    if there.fingerprint != earlier.fingerprint:
        raise Mismatch(f"another process has replaced {folder} in the meantime; run the same command again")


def _checked(
    name: str, values: np.ndarray, dtype: str, block: int, start: int, failed: Sequence[int]
) -> np.ndarray:
    with np.errstate(over="ignore"):
        array = np.ascontiguousarray(values, dtype=dtype)
    if dtype == "float16" and values.dtype != array.dtype and _too_small(array):
        raise DataError(
            f"column {name}: most values of block {block} are too small for {dtype}; extract with --dtype float32"
        )
    if array.dtype.kind == "f":
        bad = ~np.isfinite(array).all(axis=tuple(range(1, array.ndim)))
        bad[[row - start for row in failed]] = False
        if bad.any():
            row = start + int(np.argmax(bad))
            finite = np.isfinite(values[row - start]).all()
            cause = f"overflow {dtype}; extract with --dtype float32" if finite else "are not finite"
            raise DataError(
                f"column {name}: {int(bad.sum())} rows of block {block} (first: row {row}) {cause}"
            )
    return array


def _too_small(array: np.ndarray) -> bool:
    """Whether most values of a float16 array, apart from zeros, have lost digits because they are tiny."""
    size = np.abs(array)
    tiny = np.count_nonzero(size < np.finfo(np.float16).tiny) - np.count_nonzero(size == 0)
    return bool(2 * tiny > np.count_nonzero(size))


def _same(manifest: Manifest, there: Manifest, folder: Location) -> Manifest:
    """Return the existing manifest, after checking that it describes the same values."""
    if there.fingerprint == manifest.fingerprint and there.store == manifest.store:
        return there
    ours, theirs = manifest.as_json(), there.as_json()
    layout = ("columns", "rows", "store", "block_rows", "main", "classifier_sha256")
    changed = [differing(ours[part], theirs[part], f"{part}.") for part in ("recipe", "data", "versions")]
    changed.append(differing({key: ours[key] for key in layout}, {key: theirs[key] for key in layout}))
    # each command that writes has its own option for the place in the cache
    made = str(manifest.recipe.get("backbone", ""))
    other = "--dataset or --backbone" if made.startswith("import:") else "--name"
    what = "features made with other settings"
    if manifest.recipe == there.recipe and manifest.data != there.data:
        what = f"{there.rows} rows of other inputs than the current {manifest.rows}"
    raise Mismatch(
        f"{folder} holds {what} (differing: {', '.join(filter(None, changed)) or 'not known'}); "
        f"add --overwrite to replace them, or choose another {'NAME' if made in ('ensemble', 'classifier') else other}"
    )


def _classifier_bytes(classifier: Classifier) -> bytes:
    from safetensors.numpy import save

    weight = np.ascontiguousarray(classifier.weight, dtype=np.float32)
    bias = np.ascontiguousarray(classifier.bias, dtype=np.float32)
    if weight.ndim != 2 or bias.shape != weight.shape[:1]:
        raise DataError(f"a classifier needs weight [C, D] and bias [C], not {weight.shape} and {bias.shape}")
    return save({"weight": weight, "bias": bias})


def _clear(folder: Location) -> None:
    """Remove a set's files, commit records first, so that a kill cannot leave a set that looks complete."""
    remove_commits(folder)
    remove(folder / FILE)
    for child in children(folder):
        if child.name != LOCK:
            remove(child)


def _remove_rows(folder: Location, manifest: Manifest) -> None:
    """Remove the rows and the classifier of a set that was replaced."""
    place = folder / manifest.rows_folder
    remove(place / COMMITS)
    if manifest.rows_folder:
        remove(place)
        return
    for child in children(folder):
        if child.name not in (LOCK, FILE) and not child.name.startswith(ROWS):
            remove(child)
