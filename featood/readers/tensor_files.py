"""Tensors in torch files (without other objects) and safetensors files."""

from __future__ import annotations

__all__ = ["SAFETENSORS", "TORCH"]

import codecs
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from featood.errors import DataError
from featood.readers.arrays import tensor_array
from featood.readers.columns import Columns, Reader

ADVICE = "save a tensor or a dict of tensors: torch.save({'features': x, 'labels': y}, path)"


def _read_torch(path: Path) -> Columns:
    import pickle

    import torch

    try:
        with torch.serialization.safe_globals(_plain_numpy()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about versions of the format, which torch.load detects itself
            value = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise DataError(f"{path} contains more than tensors, or is not a torch file; {ADVICE}") from None
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(value)
    if isinstance(value, torch.Tensor):
        return Columns(("",), (tensor_array(value),), tabular=False)
    if isinstance(value, list | tuple) and value and all(isinstance(row, torch.Tensor) for row in value):
        if value[0].ndim and len({row.shape for row in value}) == 1:
            return Columns(("",), (tensor_array(torch.stack(list(value))),), tabular=False)
        raise DataError(f"{path} contains {len(value)} tensors without names; {ADVICE}")
    if not isinstance(value, Mapping) or not value:
        raise DataError(f"{path} contains a {type(value).__name__}; {ADVICE}")
    arrays = {str(name): array for name, entry in value.items() if (array := _array(entry)) is not None}
    others = [str(name) for name in value if str(name) not in arrays]
    notes = (f"left out: {', '.join(others)} (not tensors)",) if others else ()
    return Columns(tuple(arrays), tuple(arrays.values()), tabular=False, notes=notes)


def _plain_numpy() -> list[Any]:
    """Return the functions and types that rebuild NumPy arrays of numbers in a torch file; all are safe."""
    rebuild = np.empty(0).__reduce__()[0]
    kinds = [type(np.dtype(kind)) for kind in ("?", *"bhilqBHILQefd")]
    # the module of the function differs between versions of NumPy
    named = [(rebuild, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")]
    return [np.ndarray, np.dtype, *kinds, *named, codecs.encode]


def _array(entry: Any) -> Any:
    """Return an array, also of a list of strings or numbers such as labels; None for anything else."""
    import torch

    if isinstance(entry, np.ndarray):
        return entry if entry.ndim else None
    if isinstance(entry, torch.Tensor):
        return tensor_array(entry) if entry.ndim else None
    if isinstance(entry, list | tuple) and entry:
        if all(isinstance(row, torch.Tensor) for row in entry) and len({row.shape for row in entry}) == 1:
            return tensor_array(torch.stack(list(entry)))
        if len({type(value) for value in entry}) == 1 and isinstance(entry[0], str | int | float):
            return np.asarray(entry)
    return None


def _read_safetensors(path: Path) -> Columns:
    from safetensors.torch import load_file

    arrays = {name: tensor_array(tensor) for name, tensor in load_file(path).items()}
    return Columns(tuple(arrays), tuple(arrays.values()), tabular=False)


TORCH = Reader(title="torch", endings=(".pt", ".pth", ".bin"), read=_read_torch)
SAFETENSORS = Reader(title="safetensors", endings=(".safetensors",), read=_read_safetensors)
