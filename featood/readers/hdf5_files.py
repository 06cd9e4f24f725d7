"""HDF5 files: all their data sets."""

from __future__ import annotations

__all__ = ["READER", "read_hdf5"]

from pathlib import Path
from typing import Any

import numpy as np

from featood.readers.columns import Columns, Reader


def read_hdf5(path: Path) -> Columns:
    """Read the data sets; those in groups are named ``group.name``. Links to other files are not followed."""
    import h5py

    arrays: dict[str, np.ndarray] = {}
    others: list[str] = []

    def visit(name: str, entry: Any) -> None:
        if not isinstance(entry, h5py.Dataset):
            return
        if not entry.shape or entry.dtype.kind not in "fiubSO" or entry.is_virtual or entry.external:
            others.append(name)
        elif entry.dtype.kind == "O":
            if h5py.check_string_dtype(entry.dtype) is None:
                others.append(name)
            else:
                arrays[name.replace("/", ".")] = np.asarray(entry.asstr()[:], str)
        else:
            arrays[name.replace("/", ".")] = entry[:]

    with h5py.File(path, "r") as file:
        file.visititems(visit)
    notes = (f"left out: {', '.join(others)} (not arrays of plain values)",) if others else ()
    return Columns(tuple(arrays), tuple(arrays.values()), tabular=False, notes=notes)


READER = Reader(title="HDF5", endings=(".h5", ".hdf5", ".hdf"), read=read_hdf5, magic=(b"\x89HDF\r\n\x1a\n",))
