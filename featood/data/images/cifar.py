"""CIFAR-10 and CIFAR-100 as distributed, read without running code from their pickles.

The Python version, which torchvision downloads, is a set of pickles. A pickle contains names of functions to call;
here, these names are replaced by inert objects that only record the type and bytes of an array, and names
that a CIFAR file does not need are refused.
"""

from __future__ import annotations

__all__ = ["cifar10", "cifar100"]

import io
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from featood.data.images.image_set import ImageSet, packed_set
from featood.data.layouts import Loader
from featood.errors import DataError, reading

PIXELS = 3 * 32 * 32


def cifar10(folder: Path, split: str) -> Loader | None:
    """Layout ``data_batch_1..5`` and ``test_batch`` (pickles), or the same with ``.bin``."""
    stems = {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]}.get(split, [])
    return _find(folder, stems, "labels", header=1)


def cifar100(folder: Path, split: str) -> Loader | None:
    """Layout ``train`` and ``test`` (pickles), or the same with ``.bin``; with the fine labels."""
    return _find(folder, [split] if split in ("train", "test") else [], "fine_labels", header=2)


def _find(folder: Path, stems: list[str], labels: str, header: int) -> Loader | None:
    readers: tuple[tuple[str, Callable[[Path], tuple[np.ndarray, np.ndarray]]], ...] = (
        ("", partial(_read_pickle, key=labels)),
        (".bin", partial(_read_binary, header=header)),
    )
    for suffix, read in readers:
        paths = [folder / (stem + suffix) for stem in stems]
        if paths and all(path.is_file() for path in paths):
            return partial(_load, paths, read)
    return None


def _load(paths: list[Path], read: Callable[[Path], tuple[np.ndarray, np.ndarray]]) -> ImageSet:
    parts = [read(path) for path in paths]
    images = np.concatenate([pixels for pixels, _ in parts]).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return packed_set(images, np.concatenate([labels for _, labels in parts]), sources=tuple(paths))


def _read_binary(path: Path, header: int) -> tuple[np.ndarray, np.ndarray]:
    """Read rows of ``header`` label bytes, the last of which is the fine label, and 3,072 pixels."""
    with reading(path):
        rows = np.fromfile(path, np.uint8).reshape(-1, header + PIXELS)
        return rows[:, header:], rows[:, header - 1].astype(np.int64)


def _read_pickle(path: Path, key: str) -> tuple[np.ndarray, np.ndarray]:
    with reading(path):
        content = _InertUnpickler(io.BytesIO(path.read_bytes()), encoding="latin1").load()
        if not isinstance(content, dict):
            raise DataError(f"{path} is not a CIFAR batch")
        pixels, labels = content["data"].bytes(), np.array(content[key])
        if labels.dtype.kind != "i" or labels.ndim != 1 or len(pixels) != len(labels) * PIXELS:
            raise DataError(f"{path} is damaged: {len(labels)} labels for {len(pixels)} bytes of pixels")
        return np.frombuffer(pixels, np.uint8), labels


class _Recorded:
    """Record of an object in the pickle: the arguments of its constructor, and its state."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def bytes(self) -> bytes:
        """Return the content of a C-ordered uint8 array; its state is version, shape, dtype, order, data."""
        _, _, dtype, fortran_order, data = self.state
        if dtype.arguments[0] not in ("u1", "|u1") or fortran_order:
            raise ValueError("the pixels are not unsigned bytes in C order")
        return data.encode("latin1") if isinstance(data, str) else data


class _InertUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in (("numpy.core.multiarray", "_reconstruct"), ("numpy", "dtype")):
            return lambda *arguments: _Recorded(*arguments)
        if (module, name) == ("numpy", "ndarray"):
            return None
        raise DataError(f"refused: the pickle refers to {module}.{name}, which CIFAR files do not need")
