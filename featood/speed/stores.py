"""Speed of reading the stores of a cache, beside plain .npy files in the same run."""

from __future__ import annotations

__all__ = ["measure_stores"]

from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from featood.cache import FeatureCache
from featood.cache.feature_set import ROWS
from featood.cache.stores import STORES
from featood.cache.transfer import import_arrays
from featood.errors import CacheCorrupt
from featood.files import replacing, temporary_folder
from featood.speed.synthetic import clustered
from featood.speed.timing import in_turn, seconds, timed

KEY = "synthetic/clusters/train"
FLOOR = "npy"
GATHERED = 2000
"""Number of random rows that are read at once."""
Reads = tuple[Callable[[], float], Callable[[], float]]


def measure_stores(rows: int, features: int, repeat: int) -> list[dict[str, Any]]:
    """Measure how fast float32 features are written to and read from each store, and from an .npy file.

    The files were just written, so they are read from the page cache: what is measured is the store and not the disk.
    Every block that is read is compared with its checksum, except by ``.npy``, which has none. Random rows are read
    from sets whose blocks have been checked before.

    Parameters
    ----------
    rows, features : int
        Size of the features.
    repeat : int
        Number of rounds, in each of which every store is read.

    Returns
    -------
    list of dict
        For each store, GB/s of writing (with fsync), reading blocks and reading random rows, and the time of both
        reads as multiples of that of the .npy file; medians over the rounds.

    Raises
    ------
    CacheCorrupt
        If a store does not return what was written.
    """
    values = np.asarray(clustered(rows, features, 2, seed=0).feature())
    chosen = np.random.default_rng(0).integers(0, rows, GATHERED)
    written, blocks, gathers = {}, {}, {}
    with temporary_folder() as folder:
        for store in (FLOOR, *STORES):
            place = Path(folder) / store
            write = _write_npy if store == FLOOR else _write_store
            written[store] = seconds(lambda: write(place, store, values), 1)[0]  # noqa: B023  (called at once)
            blocks[store], gathers[store] = (_npy if store == FLOOR else _stored)(place, values, chosen)
        rounds = in_turn(blocks, repeat), in_turn(gathers, repeat)
    found = []
    for store in blocks:
        row: dict[str, Any] = {"store": store, "rows": rows, "features": features}
        row["write GB/s"] = values.nbytes / written[store] / 1e9
        for what, size, times in zip(("read", "gather"), (rows, len(chosen)), rounds, strict=True):
            row[f"{what} GB/s"] = size * values[0].nbytes / median(took[store] for took in times) / 1e9
            row[f"{what}/floor"] = median(took[store] / took[FLOOR] for took in times)
        found.append(row)
    return found


def _write_npy(place: Path, store: str, values: np.ndarray) -> None:
    with replacing(place.with_suffix(".npy")) as file:
        np.save(file, values)


def _write_store(place: Path, store: str, values: np.ndarray) -> None:
    import_arrays(FeatureCache(place), KEY, {"avg": values}, store=store)


def _npy(place: Path, values: np.ndarray, chosen: np.ndarray) -> Reads:
    path = place.with_suffix(".npy")
    mapped = np.load(path, mmap_mode="r")

    def read() -> None:
        with open(path, "rb", buffering=0) as file:
            file.seek(mapped.offset)
            while len(np.fromfile(file, values.dtype, ROWS * values.shape[1])):
                pass

    return timed(read), timed(lambda: mapped[chosen])


def _stored(place: Path, values: np.ndarray, chosen: np.ndarray) -> Reads:
    checked = FeatureCache(place)[KEY].feature()
    if not np.array_equal(checked[:], values) or not np.array_equal(checked[chosen], values[chosen]):
        raise CacheCorrupt(f"the store {place.name} does not return what was written")

    def read() -> None:
        column = FeatureCache(place)[KEY].feature()  # opened again, as blocks are checked once
        for start in range(0, len(values), ROWS):
            column[start : start + ROWS]

    return timed(read), timed(lambda: checked[chosen])
