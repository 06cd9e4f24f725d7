"""A model of a cache in memory, and assertions that compare a real cache with it."""

from __future__ import annotations

__all__ = [
    "CacheModel",
    "ModelSet",
    "assert_holds",
    "assert_lists",
    "assert_reads",
    "assert_right_or_refused",
]

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from featood.cache import Classifier, FeatureCache, FeatureSet, Manifest
from featood.cache.reader import decode_ids
from featood.errors import CacheCorrupt, DataError, FeatoodError


@dataclasses.dataclass
class ModelSet:
    """Expected content of a set.

    Parameters
    ----------
    manifest : Manifest
        Layout and recipe.
    values : mapping of str to array
        All columns ``[N, ...]``, including rows whose input could not be read.
    failed : frozenset of int
        The rows whose input could not be read.
    classifier : Classifier, optional
        Weight and bias in float32.
    committed : set of int
        Blocks whose commit record was written.
    lost : set of int
        Committed blocks of which a file is missing or has another size: the set cannot be read, and the next extraction
        writes these blocks again.
    flipped : set of int
        Committed blocks whose values may have changed: each read returns the correct values or raises an error.
    """

    manifest: Manifest
    values: Mapping[str, np.ndarray]
    failed: frozenset[int] = frozenset()
    classifier: Classifier | None = None
    committed: set[int] = dataclasses.field(default_factory=set)
    lost: set[int] = dataclasses.field(default_factory=set)
    flipped: set[int] = dataclasses.field(default_factory=set)

    @property
    def complete(self) -> bool:
        """Whether all blocks have a record."""
        return len(self.committed) == self.manifest.blocks

    @property
    def pending(self) -> list[int]:
        """Blocks that an extraction must write."""
        return [block for block in range(self.manifest.blocks) if block not in self.committed - self.lost]

    def rows(self, block: int) -> slice:
        """Rows of a block."""
        size = self.manifest.block_rows
        return slice(block * size, min((block + 1) * size, self.manifest.rows))

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """Columns as read: without the failed rows, and with decoded ids."""
        kept = [row for row in range(self.manifest.rows) if row not in self.failed]
        columns = {name: values[kept] for name, values in self.values.items()}
        if "ids" in columns:
            columns["ids"] = decode_ids(columns["ids"])
        return columns


class CacheModel(dict[str, ModelSet]):
    """Model of a cache: a dictionary of sets by key."""


def same_bits(found: Any, expected: np.ndarray, what: str) -> None:
    """Require equal shape, type and bits; objects, such as ids, must be equal."""
    found = np.asarray(found)
    assert found.shape == expected.shape, f"{what} has shape {found.shape}, not {expected.shape}"
    assert found.dtype == expected.dtype, f"{what} is {found.dtype}, not {expected.dtype}"
    equal = found == expected if found.dtype == object else _bits(found) == _bits(expected)
    assert np.all(equal), f"{what} differs"


def _bits(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values).view(np.uint8)


def whole(features: FeatureSet) -> dict[str, Any]:
    """Return all columns of a set by name, without reading them."""
    others = {name: getattr(features, name) for name in ("logits", "labels", "ids")}
    return {**features.features, **{name: column for name, column in others.items() if column is not None}}


def assert_holds(features: FeatureSet, expected: ModelSet, ways: int = 0, seed: int = 0) -> None:
    """Require a set to be bit-identical to the model.

    Parameters
    ----------
    features : FeatureSet
        The opened set.
    expected : ModelSet
        Its expected content.
    ways : int
        Number of random partial reads (slices, index arrays, rows, blocks, selections).
    seed : int
        Seed of the partial reads.
    """
    name, columns = features.name, expected.columns
    found = whole(features)
    assert set(found) == set(columns), f"{name} has the columns {sorted(found)}, not {sorted(columns)}"
    n = expected.manifest.rows - len(expected.failed)
    assert len(features) == n, f"{name} has {len(features)} rows, not {n}"
    assert features.left_out == len(expected.failed), f"{name}: {features.left_out} rows left out"
    assert features.main == expected.manifest.main, f"{name}: the main column is {features.main}"
    assert features.fingerprint == expected.manifest.backbone_fingerprint, f"{name}: another fingerprint"
    for column, values in columns.items():
        same_bits(found[column][:], values, f"{name}: {column}")
    assert (features.classifier is None) == (expected.classifier is None), f"{name}: classifier"
    if features.classifier is not None and expected.classifier is not None:
        for part in Classifier._fields:
            wanted = np.asarray(getattr(expected.classifier, part), dtype="f4")
            same_bits(getattr(features.classifier, part), wanted, f"{name}: {part}")
    rng = np.random.default_rng(seed)
    for _ in range(ways):
        _one_way(features, columns, n, rng)


def _one_way(features: FeatureSet, columns: dict[str, np.ndarray], n: int, rng: np.random.Generator) -> None:
    """Read some rows in a random way."""
    start, stop = sorted(int(end) for end in rng.integers(-n - 2, n + 3, 2))
    some = slice(start, stop)
    way = int(rng.integers(6))
    if way == 5:
        size, at = int(rng.integers(1, n + 2)), 0
        for block in features.blocks(size):
            for name, values in whole(block).items():
                part = columns[name][at : at + size]
                same_bits(
                    values, part.astype("i8") if name == "labels" else part, f"blocks of {size}: {name}"
                )
            at += size
        assert at >= n, f"blocks end at row {at} of {n}"
        return
    if way == 4:
        name = str(rng.choice(list(columns)))
        same_bits(whole(features.select(name))[name][some], columns[name][some], f"select {name}, {some}")
        return
    picks: list[Any] = [
        some,
        slice(start, None, int(rng.choice([2, 3, -1]))),
        rng.integers(0, n, 5) if n else slice(0),
        rng.random(n) < 0.5,
    ]
    for name, values in whole(features.rows(picks[way])).items():
        same_bits(values[:], columns[name][picks[way]], f"rows {picks[way]}: {name}")


def assert_right_or_refused(features: FeatureSet, expected: ModelSet) -> bool:
    """Require each column to be bit-identical or to raise an error; return whether all were read."""
    right = True
    for name, values in expected.columns.items():
        try:
            found = whole(features)[name][:]
        except FeatoodError as error:
            right = False
            assert str(error) and "\n" not in str(error), f"the error message is not one line: {error!r}"
            continue
        same_bits(found, values, f"{features.name}: {name}, of a damaged set,")
    return right


def assert_reads(
    cache: FeatureCache, key: str, expected: ModelSet | None, ways: int = 0, seed: int = 0
) -> None:
    """Require a set to be read, or to raise an error with its key or folder, as expected by the model."""
    if expected is None:
        _refused(DataError, cache, key, key)
        assert key not in cache, f"{key} was removed, but is still in the cache"
        return
    assert key in cache, f"{key} is not in the cache"
    if not expected.complete or expected.lost:
        _refused(CacheCorrupt, cache, key, str(cache.folder(*key.split("/"))))
    elif expected.flipped:
        try:
            features = cache[key]
        except CacheCorrupt:
            return
        assert_right_or_refused(features, expected)
    else:
        assert_holds(cache[key], expected, ways, seed)


def _refused(kind: type[FeatoodError], cache: FeatureCache, key: str, text: str) -> None:
    try:
        cache[key]
    except kind as error:
        assert text in str(error), f"the error message does not contain {text}: {error}"
    else:
        raise AssertionError(f"{key} was opened, but the model expects an error")


def assert_lists(rows: Iterable[Mapping[str, Any]], model: CacheModel) -> None:
    """Require the rows of ``featood cache ls --json`` to be equal to the model."""
    facts = ("key", "rows", "store", "complete", "blocks", "fingerprint", "backbone_fingerprint", "columns")
    found = {row["key"]: {fact: row[fact] for fact in facts} for row in rows}
    wanted = {
        key: {
            "key": key,
            "rows": expected.manifest.rows,
            "store": expected.manifest.store,
            "complete": expected.complete,
            "blocks": [len(expected.committed), expected.manifest.blocks],
            "fingerprint": expected.manifest.fingerprint,
            "backbone_fingerprint": expected.manifest.backbone_fingerprint,
            "columns": {name: list(spec.shape) for name, spec in expected.manifest.columns.items()},
        }
        for key, expected in model.items()
    }
    assert found == wanted, f"the cache lists {found}, not {wanted}"
