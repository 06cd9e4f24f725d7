"""The two array stores, zarr and HDF5: whole row blocks in, whole row blocks out."""

from __future__ import annotations

__all__ = ["STORES", "ColumnSpec", "HDF5Store", "Store", "ZarrStore"]

import importlib
import io
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from featood.errors import MissingPackage
from featood.files import atomic_write, make_folder, size_of

CHUNK = 256
"""Rows in a checksummed chunk inside a block."""
METADATA = "zarr.json"


@dataclass(frozen=True)
class ColumnSpec:
    """Shape of one row and element type of a column."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def lost(self) -> float | int:
        """What a lost block reads as in other programs, which must not be plausible zeros."""
        kind = np.dtype(self.dtype)
        return math.nan if kind.kind == "f" else int(np.iinfo(kind).min)


class Store:
    """Columns of N rows cut into blocks; a block is written once, whole, by one writer.

    A store promises nothing about completeness: which blocks count is the business of the commit
    records kept beside it. Its files are made in memory and written by :mod:`featood.files`.
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
        """Read one column of a block.

        Raises
        ------
        ValueError
            When a file is missing or damaged.
        OSError
            When it cannot be read, as for a fault of the disk or want of a permission.
        MissingPackage
            When the store's library cannot be imported.
        """
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
        """Write the metadata of every array, unless those there describe it."""
        zarr = _library("zarr")

        for name, spec in self.columns.items():
            path = self.folder / name / METADATA
            if size_of(path) is not None:
                try:
                    self._array(name, {METADATA: _content(path)})
                    continue
                except ValueError:
                    pass
            held: dict[str, Any] = {}
            zarr.create_array(
                zarr.storage.MemoryStore(held),
                shape=(self.rows, *spec.shape),
                dtype=spec.dtype,
                chunks=(math.gcd(CHUNK, self.block_rows), *spec.shape),
                shards=(self.block_rows, *spec.shape),
                compressors=[zarr.codecs.Crc32cCodec()],
                fill_value=spec.lost,
            )
            atomic_write(path, held[METADATA].to_bytes())

    def _array(self, column: str, files: Mapping[str, bytes], held: dict[str, Any] | None = None) -> Any:
        """Open an array that is but metadata and shards in memory; `held` is what it puts shards into."""
        zarr = _library("zarr")
        from zarr.core.buffer import default_buffer_prototype

        spec, held = self.columns[column], {} if held is None else held
        with _decoding():
            buffer = default_buffer_prototype().buffer
            held.update({name: buffer.from_bytes(content) for name, content in files.items()})
            # else a block of fill values leaves no file
            with zarr.config.set({"array.write_empty_chunks": True}):
                array = zarr.open_array(zarr.storage.MemoryStore(held), mode="r+", zarr_format=3)
            found = (array.shape, array.dtype, array.shards)
            if found != ((self.rows, *spec.shape), np.dtype(spec.dtype), (self.block_rows, *spec.shape)):
                raise ValueError(f"{METADATA} describes another array")
            return array

    def write(self, block: int, values: Mapping[str, np.ndarray]) -> None:
        """Write a block as whole shards."""
        for name in self.columns:
            held: dict[str, Any] = {}
            array = self._array(name, {METADATA: _content(self.folder / name / METADATA)}, held)
            array[self.span(block)] = values[name]
            shard = self._shard(name, block)
            atomic_write(self.folder / name / shard, memoryview(held[shard].as_numpy_array()))

    def read(self, column: str, block: int) -> np.ndarray:
        """Read one shard."""
        names = (METADATA, self._shard(column, block))
        array = self._array(column, {name: _content(self.folder / column / name) for name in names})
        with _decoding():
            return np.asarray(array[self.span(block)])

    def _shard(self, column: str, block: int) -> str:
        return "/".join(["c", str(block), *["0"] * len(self.columns[column].shape)])

    def files(self, block: int) -> list[Path]:
        """One shard file a column."""
        return [self.folder / name / self._shard(name, block) for name in self.columns]


class HDF5Store(Store):
    """HDF5, one Fletcher-32 protected file a block, joined by virtual datasets once complete."""

    kind = "hdf5"

    def create(self) -> None:
        """Make the folder."""
        make_folder(self.folder)

    def _path(self, block: int) -> Path:
        return self.folder / f"block-{block:05d}.h5"

    def write(self, block: int, values: Mapping[str, np.ndarray]) -> None:
        """Write a block's file whole: built in memory, for the HDF5 library does not survive a full disk."""
        h5py = _library("h5py")

        memory = io.BytesIO()
        with h5py.File(memory, "w") as file:
            for name, spec in self.columns.items():
                chunks = (min(CHUNK, len(values[name])), *spec.shape)
                file.create_dataset(name, data=values[name], chunks=chunks, fletcher32=True)
        atomic_write(self._path(block), memory.getbuffer())

    def read(self, column: str, block: int) -> np.ndarray:
        """Read one column of a block's file; the file is closed again at once, so forked workers are safe."""
        h5py = _library("h5py")

        def values(source: Any, **options: Any) -> np.ndarray:
            with h5py.File(source, "r", **options) as file:
                data, rows = file[column], self.span(block)
                wanted = ((rows.stop - rows.start, *self.columns[column].shape), self.columns[column].dtype)
                if (data.shape, data.dtype) != wanted:  # before memory is taken for it
                    raise ValueError(f"it holds {data.shape} {data.dtype}")
                return data[:]

        try:
            # a file that has its name never changes, and some file systems have no locks
            return values(self._path(block), locking=False)
        except Exception:  # HDF5 raises the same for damage as for a fault of the disk
            content = _content(self._path(block))
        with _decoding():
            return values(io.BytesIO(content))

    def files(self, block: int) -> list[Path]:
        """One file a block."""
        return [self._path(block)]

    def finish(self) -> None:
        """Join the blocks in ``features.h5``, so that any HDF5 program can read the columns whole."""
        h5py = _library("h5py")

        memory = io.BytesIO()
        with h5py.File(memory, "w", libver="latest") as file:
            for name, spec in self.columns.items():
                layout = h5py.VirtualLayout((self.rows, *spec.shape), dtype=spec.dtype)
                for block in range(-(-self.rows // self.block_rows)):
                    rows = self.span(block)
                    shape = (rows.stop - rows.start, *spec.shape)
                    layout[rows] = h5py.VirtualSource(self._path(block).name, name, shape)
                file.create_virtual_dataset(name, layout, fillvalue=spec.lost)
        atomic_write(self.folder / "features.h5", memory.getbuffer())


STORES: dict[str, type[Store]] = {store.kind: store for store in (ZarrStore, HDF5Store)}


def _library(name: str) -> Any:
    """Import the library of a store, whose absence says nothing about the files."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingPackage(
            f"sets in this store need the package {name}, which cannot be imported ({error}); "
            f"install it: pip install --upgrade {name}"
        ) from error


def _content(path: Path) -> bytes:
    """Read a file in the plainest way: what goes wrong here is the machine's fault, unless the file is gone."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise ValueError(f"{path.name} is missing") from None


@contextmanager
def _decoding() -> Iterator[None]:
    """Turn the dozens of types that the libraries raise on damaged bytes into one."""
    try:
        yield
    except (ImportError, MemoryError):
        raise
    except Exception as error:
        if "can't start new thread" in str(error):  # the machine's fault as well
            raise
        raise ValueError(f"{type(error).__name__}: {error}") from error
