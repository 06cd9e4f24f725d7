"""Writing of a set of several blocks, here or in a process of its own: ``python object_writer.py ROOT [BLOCKS]``."""

import sys

import numpy as np

from featood.cache import ColumnSpec, FeatureCache, Manifest

KEY = "net/data/train"
BLOCKS, BLOCK_ROWS, WIDTH = 5, 32, 24


def columns(blocks=BLOCKS):
    """Return every column of the set, the same in every process; the last block is not full."""
    rng = np.random.default_rng(0)
    rows = blocks * BLOCK_ROWS - 20
    return {"avg": rng.normal(size=(rows, WIDTH)).astype("f4"), "labels": rng.integers(0, 3, rows)}


def write(root, blocks=BLOCKS, earlier=None):
    """Write the blocks that are missing, and return the set."""
    values = columns(blocks)
    manifest = Manifest(
        recipe={"backbone": "net"},
        data={"dataset": "data", "split": "train", "inputs_sha256": ""},
        columns={name: ColumnSpec(array.shape[1:], str(array.dtype)) for name, array in values.items()},
        rows=len(values["avg"]),
        store="zarr",
        main="avg",
        block_rows=BLOCK_ROWS,
        run={"created": "2026-01-01"},
    )
    with FeatureCache(root).writer(KEY, manifest, earlier=earlier) as writer:
        for block in writer.pending():
            rows = writer.span(block)
            writer.write(block, {name: array[rows] for name, array in values.items()})
        return writer.finish(KEY)


if __name__ == "__main__":
    write(sys.argv[1], *map(int, sys.argv[2:]))
