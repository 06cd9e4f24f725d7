"""Images that were added to a set: the rows of the earlier extraction are taken over, and only the others computed.

The last bits of a feature may depend on the number of images in its batch. So rows are taken over in whole batches,
whose images were in batches of the same size before; all other batches are computed as in an extraction of all images.
"""

from __future__ import annotations

__all__ = ["RowsBefore", "rows_before"]

import dataclasses
import datetime
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from featood.cache import CacheEntry, FeatureCache, Manifest
from featood.cache.columns import StoredColumn
from featood.cache.manifest import differing
from featood.cache.reader import failed_rows, open_blocks, stored_columns
from featood.data import InputSet
from featood.errors import Mismatch
from featood.extractors.forward import ExtractOptions
from featood.files import modified, size_of
from featood.readers import listed

INSTEAD = "extract all of it again with --overwrite, or leave out --append and choose another --name"


@dataclasses.dataclass(frozen=True)
class RowsBefore:
    """Rows of a complete set in the cache, by the rows of the longer set that replaces it."""

    columns: Mapping[str, StoredColumn]
    """The columns that the network computed."""
    rows: np.ndarray
    """Row of the earlier set for each row of the longer one ``[N]``; -1 for rows to compute."""
    manifest: Manifest
    """Manifest of the earlier set."""

    @property
    def count(self) -> int:
        """Number of rows that are taken over."""
        return int(np.count_nonzero(self.rows >= 0))

    @property
    def facts(self) -> dict[str, Any]:
        """What is recorded about them."""
        created = self.manifest.run.get("created", "")
        return {"rows": self.count, "fingerprint": self.manifest.fingerprint, "created": created}

    def has(self, batch: range) -> bool:
        """Whether the rows of a batch are taken over."""
        return bool(self.rows[batch.start] >= 0)

    def read(self, batch: range) -> dict[str, Tensor]:
        """Read and check the rows of a batch ``[B, D]``."""
        rows = self.rows[batch.start : batch.stop]
        return {name: torch.from_numpy(column[rows]) for name, column in self.columns.items()}


def rows_before(
    cache: FeatureCache, key: str, manifest: Manifest, images: InputSet, options: ExtractOptions
) -> RowsBefore | None:
    """Return the rows of the set of a name in the cache that a longer set takes over.

    Parameters
    ----------
    cache : FeatureCache
        The cache.
    key : str
        Name of both sets.
    manifest : Manifest
        Manifest of the longer set.
    images : InputSet
        Its images. Those of the set in the cache must be among them: the files by name, in any order; for packed sets,
        the first ones.
    options : ExtractOptions
        Size of batches and blocks, and extra columns.

    Returns
    -------
    RowsBefore or None
        None if there is no complete set, or it is the same.

    Raises
    ------
    Mismatch
        If it was extracted with other settings or other versions, or its images are not there, or have changed.
    """
    entry = cache.entry(key)
    if entry is None or not entry.complete:
        return None
    there = entry.manifest
    if (
        dataclasses.replace(manifest, classifier_sha256=there.classifier_sha256).fingerprint
        == there.fingerprint
    ):
        return None
    _check_settings(key, manifest, there)
    _, reader = open_blocks(entry.folder)
    columns = stored_columns(reader)
    places = _places(key, entry, columns, images)
    earlier = np.full(len(images), -1, np.int64)
    earlier[places] = np.arange(there.rows)
    earlier[places[failed_rows(reader)]] = -1  # read again, and reported again
    _, sizes = _batches(there.rows, there.block_rows, options.batch_size)
    starts, lengths = _batches(len(images), options.block_rows, options.batch_size)
    same = (earlier >= 0) & (np.repeat(sizes, sizes)[earlier] == np.repeat(lengths, lengths))
    if any(extra.by_batch for extra in options.extras):
        same &= earlier == np.arange(len(images))
    whole = np.logical_and.reduceat(same, starts)
    earlier[~np.repeat(whole, lengths)] = -1
    computed = {name: column for name, column in columns.items() if name not in ("labels", "ids")}
    return RowsBefore(computed, earlier, there)


def _batches(rows: int, block_rows: int, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first row of each batch of an extraction, and its number of rows."""
    blocks = ((start, min(start + block_rows, rows)) for start in range(0, rows, block_rows))
    starts = np.concatenate([np.arange(start, stop, batch_size) for start, stop in blocks])
    return starts, np.diff(starts, append=rows)


def _check_settings(key: str, manifest: Manifest, there: Manifest) -> None:
    """Raise Mismatch if rows of two manifests do not belong into one set."""
    ours, theirs = (
        {
            **json.loads(json.dumps(made.recipe)),  # tuples become lists, as in the cache
            **{name: made.run.get(name) for name in ("decoding", "batch_size", "processor")},
            "device": str(made.run.get("device")).partition(":")[0],
            "store": made.store,
        }
        for made in (manifest, there)
    )
    if names := differing(ours, theirs):
        raise Mismatch(
            f"{key} was extracted with other settings (differing: {names}); repeat them, or {INSTEAD}"
        )
    if manifest.versions != there.versions:
        names = differing(manifest.versions, there.versions)
        raise Mismatch(
            f"{key} was extracted with other versions (differing: {names}), which may compute other values; {INSTEAD}"
        )


def _places(key: str, entry: CacheEntry, columns: Mapping[str, StoredColumn], images: InputSet) -> np.ndarray:
    """Return the row of each image of the set in the cache among the images; raise Mismatch if one is not the same."""
    ids, there = tuple(columns["ids"][:]), entry.manifest
    labels = columns["labels"][:] if "labels" in columns else None
    if not images.in_memory:
        rows = {name: row for row, name in enumerate(images.ids)}
        if gone := [name for name in ids if name not in rows]:
            raise Mismatch(f"{key} contains images that are not there any more ({listed(gone)}); {INSTEAD}")
        places = np.array([rows[name] for name in ids])
    elif len(ids) > len(images):
        raise Mismatch(f"{key} contains {len(ids)} images, more than the current {len(images)}; {INSTEAD}")
    else:
        places = np.arange(len(ids))  # ids are row numbers, of as many digits as the last one
    same = images.subset(range(len(ids))) if images.in_memory else images
    if dataclasses.replace(same, ids=ids, labels=labels).digest() != there.inputs_sha256:
        newer = [] if images.root is None else _modified_since(images.root, ids, entry.created)
        some = f", such as {listed(newer)}" if newer else ""
        raise Mismatch(f"images of {key} have changed since it was extracted{some}; {INSTEAD}")
    return places


def _modified_since(root: Path, names: Sequence[str], created: str) -> list[str]:
    since = datetime.datetime.fromisoformat(created).timestamp()
    return [name for name in names if size_of(root / name) is None or modified(root / name) > since]
