"""NumPy's .npy and .npz files of numbers and strings."""

from __future__ import annotations

__all__ = ["READER"]

import zipfile
from pathlib import Path

import numpy as np

from featood.errors import DataError
from featood.readers.columns import Columns, Reader

MAGIC = b"\x93NUMPY"


def _read(path: Path) -> Columns:
    with open(path, "rb") as file:
        plain = file.read(len(MAGIC)) == MAGIC
    if not plain and not zipfile.is_zipfile(path):  # NumPy would treat it as a pickle
        raise DataError(f"{path} was not written by np.save or np.savez, or is damaged")
    try:
        if plain:
            return Columns(("",), (np.load(path, mmap_mode="r", allow_pickle=False),), tabular=False)
        arrays = {}
        with np.load(path, allow_pickle=False) as file:
            for name in file.files:
                arrays[name] = file[name]
    except ValueError as error:
        if "object" not in str(error).lower():
            raise
        name = "the array" if plain else f"'{name}'"
        raise DataError(
            f"{path}: {name} contains Python objects, which are not read; save rows of equal length as one array of "
            "numbers, and text as an array of strings (np.asarray(values, str))"
        ) from None
    return Columns(tuple(arrays), tuple(arrays.values()), tabular=False)


READER = Reader(title="NumPy", endings=(".npy", ".npz"), read=_read, magic=(MAGIC,))
