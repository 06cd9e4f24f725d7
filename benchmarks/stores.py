"""Speed and size of featood's stores zarr and HDF5 (checksums, commit records, fsync), relative to plain .npy files.

Every store contains the same synthetic FeatureSet, which is written and read block by block. Reads come from the page
cache, because the files were just written; they show the overhead of a store without the disk:

- read: every value of the features, block by block; those of the stores are verified;
- bare: the bytes of the same files, block by block, by one call each and without a checksum;
- scan: sums over all columns, as tensors;
- gather: 2,000 random rows of the features, after all blocks have been read once.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from common import save, show

from featood import FeatureCache, FeatureSet
from featood.cache.columns import StoredColumn
from featood.cache.feature_set import ROWS
from featood.cache.manifest import Manifest
from featood.cache.stores import STORES, ColumnSpec
from featood.speed.environment import environment
from featood.speed.synthetic import clustered
from featood.speed.timing import seconds

KEY = "synthetic/clusters/train"


def columns_of(data: FeatureSet) -> dict[str, np.ndarray]:
    """Return the arrays to store, by name."""
    return {**data.features, "logits": data.logits, "labels": data.labels}  # type: ignore[dict-item]


def write_store(root: Path, store: str, columns: dict[str, np.ndarray]) -> None:
    """Write the columns block by block, as an extraction does."""
    shutil.rmtree(root, ignore_errors=True)
    manifest = Manifest(
        recipe={"backbone": "synthetic"},
        data={"dataset": "clusters", "split": "train", "inputs_sha256": ""},
        columns={name: ColumnSpec(values.shape[1:], str(values.dtype)) for name, values in columns.items()},
        rows=len(columns["labels"]),
        store=store,
        main="avg",
    )
    with FeatureCache(root).writer(KEY, manifest) as writer:
        for block in writer.pending():
            writer.write(block, {name: values[writer.span(block)] for name, values in columns.items()})
        writer.finish(KEY)


def write_npy(root: Path, columns: dict[str, np.ndarray]) -> None:
    """Write one file per column, with fsync."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    for name, values in columns.items():
        with open(root / f"{name}.npy", "wb") as file:
            np.save(file, values)
            file.flush()
            os.fsync(file.fileno())


def open_npy(root: Path) -> FeatureSet:
    """Map the files into memory."""
    avg, logits, labels = (
        np.load(root / f"{name}.npy", mmap_mode="r") for name in ("avg", "logits", "labels")
    )
    return FeatureSet({"avg": avg}, logits=logits, labels=labels)


def scan(data: FeatureSet) -> float:
    """Read every value once, in blocks."""
    blocks = data.blocks()
    return sum(
        float(block.features["avg"].sum() + block.logits.sum() + block.labels.sum()) for block in blocks
    )


def read(data: FeatureSet) -> None:
    """Read every value of the features into new memory, in blocks."""
    column = data.feature()
    for start in range(0, len(data), ROWS):
        np.array(column[start : start + ROWS], copy=None if isinstance(column, StoredColumn) else True)


def read_bare(root: Path, size: int) -> None:
    """Read the bytes of the largest files in pieces of a block."""
    for path in root.rglob("*"):
        if path.is_file() and path.stat().st_size >= min(size, 2**20):
            with open(path, "rb", buffering=0) as file:
                while len(np.fromfile(file, np.uint8, size)):
                    pass


def measure(root: Path, store: str, columns: dict[str, np.ndarray], repeat: int) -> dict[str, Any]:
    """Measure writing, size and reading, and compare every value."""
    total, features = sum(values.nbytes for values in columns.values()) / 1e9, columns["avg"]
    if store == "npy":
        written, _ = seconds(lambda: write_npy(root, columns), repeat)
        reopen = lambda: open_npy(root)  # noqa: E731
    else:
        written, _ = seconds(lambda: write_store(root, store, columns), repeat)
        reopen = lambda: FeatureCache(root)[KEY]  # noqa: E731
    pairs = [
        (
            seconds(lambda: read(reopen()), 1)[0],
            seconds(lambda: read_bare(root, ROWS * features[0].nbytes), 1)[0],
        )
        for _ in range(3 * repeat)
    ]  # alternately, as other processes may slow down the machine for a time
    took, bare = map(min, zip(*pairs, strict=True))
    scanned, _ = seconds(lambda: scan(reopen()), repeat)
    stored = columns_of(reopen())
    identical = all(np.array_equal(stored[name][:], values) for name, values in columns.items())
    rng = np.random.default_rng(0)
    gathered, _ = seconds(lambda: stored["avg"][rng.integers(0, len(stored["avg"]), 2000)], 3 * repeat)
    files = [path for path in root.rglob("*") if path.is_file()]
    return {
        "store": store,
        "disk MB": sum(path.stat().st_size for path in files) / 1e6,
        "files": len(files),
        "write GB/s": total / written,
        "read GB/s": features.nbytes / 1e9 / took,
        "bare GB/s": sum(path.stat().st_size for path in files) / 1e9 / bare,
        "scan GB/s": total / scanned,
        "gather ms": 1e3 * gathered,
        "identical": identical,
    }


def main() -> int:
    """Print the table; the exit code is 1 if a store does not return what was written."""
    parser = argparse.ArgumentParser(description="Size and speed of the stores.")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--size", type=int, default=512, help="features per row")
    parser.add_argument("--repeat", type=int, default=3, help="number of runs; the fastest is reported")
    parser.add_argument("--folder", help="working folder (default: a temporary folder)")
    parser.add_argument("--json", help="write the table as JSON")
    given = parser.parse_args()
    columns = columns_of(clustered(given.rows, given.size, 10, seed=0))
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        rows = [measure(Path(folder) / store, store, columns, given.repeat) for store in ("npy", *STORES)]
    npy = rows[0]
    for row in rows:
        row["read / bare"] = row["read GB/s"] / row["bare GB/s"]
        row["gather / npy"] = row["gather ms"] / npy["gather ms"]
    title = f"Stores: {given.rows} rows x {given.size} float32, written with fsync, read from the page cache"
    show(title, rows)
    save(given.json, environment("zarr", "h5py"), stores=rows)
    return 0 if all(row["identical"] for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
