"""MATLAB's .mat files: their arrays of numbers and text."""

from __future__ import annotations

__all__ = ["READER"]

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from featood.readers.columns import Columns, Reader
from featood.readers.hdf5_files import read_hdf5


def _read(path: Path) -> Columns:
    import h5py
    from scipy.io import loadmat

    if h5py.is_hdf5(path):  # version 7.3 stores arrays with their axes reversed
        columns = read_hdf5(path)
        return dataclasses.replace(columns, values=tuple(values.T for values in columns.values))
    found = {name: _plain(value) for name, value in loadmat(path).items() if not name.startswith("__")}
    arrays = {name: value for name, value in found.items() if value is not None}
    others = [name for name, value in found.items() if value is None]
    notes = (f"left out: {', '.join(others)} (not arrays of plain values)",) if others else ()
    return Columns(tuple(arrays), tuple(arrays.values()), tabular=False, notes=notes)


def _plain(value: Any) -> np.ndarray | None:
    """Return an array of numbers or strings, or None; MATLAB stores a vector as a matrix of one row or column."""
    if hasattr(value, "toarray"):
        value = value.toarray()
    if not isinstance(value, np.ndarray) or value.dtype.names:
        return None
    if value.dtype == object:  # a cell array
        cells = [
            cell.item() if isinstance(cell, np.ndarray) and cell.size == 1 else cell for cell in value.ravel()
        ]
        return np.array(cells) if cells and all(isinstance(cell, str) for cell in cells) else None
    if value.dtype.kind == "U":
        return np.char.strip(value)
    return value[0] if value.ndim == 2 and value.shape[0] == 1 < value.shape[1] else value


READER = Reader(title="MATLAB", endings=(".mat",), read=_read, magic=(b"MATLAB",))
