"""The two array stores, zarr and HDF5: whole row blocks in, whole row blocks out."""

from __future__ import annotations

__all__ = ["STORES", "ColumnSpec", "HDF5Store", "Store", "ZarrStore"]

import io
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from featood.files import atomic_write

CHUNK = 256
"""Rows in a checksummed chunk inside a block."""


@dataclass(frozen=True)
class ColumnSpec:
    """Shape of one row and element type of a column."""

    shape: tuple[int, ...]
    dtype: str


class Store:
    """Columns of N rows cut into blocks; a block is written once, whole, by one writer.

    A store promises nothing about completeness: which blocks count is the business of the commit
    records kept beside it.
    """

    kind: ClassVar[str]

    def __init__(self, folder: Path, columns: Mapping[str, ColumnSpec], rows: int, block_rows: int) -> None:
        self.folder = folder
        self.columns = dict(columns)
        self.rows = rows
        self.block_rows = block_rows

    def span(self, block: int) -> slice:
        """Return the rows of a block."""
        return slice(block * self.block_rows, min((block + 1) * self.block_rows, self.rows))

    def create(self) -> None:
        """Lay out the empty store; harmless when it is already there."""

    def write(self, block: int, values: Mapping[str, np.ndarray]) -> None:
        """Write every column of a block."""
        raise NotImplementedError

    def read(self, column: str, block: int) -> np.ndarray:
        """Read one column of a block."""
        raise NotImplementedError

    def files(self, block: int) -> list[Path]:
        """List the files that hold a block."""
        raise NotImplementedError

    def finish(self) -> None:
        """Round off the set once every block has been committed."""


class ZarrStore(Store):
    """zarr v3, one array a column, one shard a block, inner chunks with CRC-32C."""

    kind = "zarr"

    def create(self) -> None:
        """Write the metadata of every array."""
        import zarr
        from zarr.codecs import Crc32cCodec

        for name, spec in self.columns.items():
            if (self.folder / name / "zarr.json").exists():
                continue
            zarr.create_array(
                str(self.folder / name),
                shape=(self.rows, *spec.shape),
                dtype=spec.dtype,
                chunks=(math.gcd(CHUNK, self.block_rows), *spec.shape),
                shards=(self.block_rows, *spec.shape),
                compressors=[Crc32cCodec()],
                # A lost shard must not read as plausible zeros.
                fill_value=math.nan if np.dtype(spec.dtype).kind == "f" else np.iinfo(spec.dtype).min,
            )

    def _array(self, column: str, mode: str) -> Any:
        import zarr

        # else a block of fill values leaves no file
        with zarr.config.set({"array.write_empty_chunks": True}):
            return zarr.open_array(str(self.folder / column), mode=mode)

    def write(self, block: int, values: Mapping[str, np.ndarray]) -> None:
        """Write a block as whole shards, then force them to disk."""
        for file in self.files(block):
            file.unlink(
                missing_ok=True
            )  # of a last, partial block zarr would read the rest, which may be damaged
        for name in self.columns:
            self._array(name, "r+")[self.span(block)] = values[name]
        for file in self.files(block):
            _flush(file)

    def read(self, column: str, block: int) -> np.ndarray:
        """Read one shard."""
        return np.asarray(self._array(column, "r")[self.span(block)])

    def files(self, block: int) -> list[Path]:
        """One shard file a column."""
        return [
            self.folder.joinpath(name, "c", str(block), *["0"] * len(spec.shape))
            for name, spec in self.columns.items()
        ]


class HDF5Store(Store):
    """HDF5, one Fletcher-32 protected file a block, joined by virtual datasets once complete."""

    kind = "hdf5"

    def create(self) -> None:
        """Make the folder."""
        self.folder.mkdir(parents=True, exist_ok=True)

    def _path(self, block: int) -> Path:
        return self.folder / f"block-{block:05d}.h5"

    def write(self, block: int, values: Mapping[str, np.ndarray]) -> None:
        """Write a block's file whole: built in memory, for the HDF5 library does not survive a full disk."""
        import h5py

        memory = io.BytesIO()
        with h5py.File(memory, "w") as file:
            for name, spec in self.columns.items():
                chunks = (min(CHUNK, len(values[name])), *spec.shape)
                file.create_dataset(name, data=values[name], chunks=chunks, fletcher32=True)
        atomic_write(self._path(block), memory.getvalue())

    def read(self, column: str, block: int) -> np.ndarray:
        """Read one column of a block's file; the file is closed again at once, so forked workers are safe."""
        import h5py

        with h5py.File(self._path(block), "r") as file:
            return file[column][:]

    def files(self, block: int) -> list[Path]:
        """One file a block."""
        return [self._path(block)]

    def finish(self) -> None:
        """Join the blocks in ``features.h5``, so that any HDF5 program can read the columns whole."""
        import h5py

        memory = io.BytesIO()
        with h5py.File(memory, "w", libver="latest") as file:
            for name, spec in self.columns.items():
                layout = h5py.VirtualLayout((self.rows, *spec.shape), dtype=spec.dtype)
                for block in range(-(-self.rows // self.block_rows)):
                    rows = self.span(block)
                    shape = (rows.stop - rows.start, *spec.shape)
                    layout[rows] = h5py.VirtualSource(self._path(block).name, name, shape)
                file.create_virtual_dataset(name, layout)
        atomic_write(self.folder / "features.h5", memory.getvalue())


STORES: dict[str, type[Store]] = {store.kind: store for store in (ZarrStore, HDF5Store)}


def _flush(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())
