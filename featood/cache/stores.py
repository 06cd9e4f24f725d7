"""The two array stores, zarr and HDF5, which read and write complete row blocks."""

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
"""Number of rows in a checksummed chunk inside a block."""
METADATA = "zarr.json"


@dataclass(frozen=True)
class ColumnSpec:
    """Shape of one row and element type of a column."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def lost(self) -> float | int:
        """Fill value with which other programs read a lost block; it must not look like data."""
        kind = np.dtype(self.dtype)
        return math.nan if kind.kind == "f" else int(np.iinfo(kind).min)


class Store:
    """Columns of N rows divided into blocks; a block is written once, completely, by one writer.

    A store does not track completeness: the commit records stored next to it determine which blocks are
    valid. Its files are built in memory and written by :mod:`featood.files`.
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
        """Create the empty store, if it does not exist."""

    def write(self, block: int, values: Mapping[str, np.ndarray]) -> None:
        """Write every column of a block."""
        raise NotImplementedError

    def read(self, column: str, block: int) -> np.ndarray:
        """Read one column of a block.

        Raises
        ------
        ValueError
            If a file is missing or damaged, or if shape or type are not those of the manifest: equal bytes of another
            type are different values.
        OSError
            If it cannot be read, for example because of a disk error or missing permission.
        MissingPackage
            If the store's library cannot be imported.
        """
        raise NotImplementedError

    def files(self, block: int) -> list[Path]:
        """List the files of a block."""
        raise NotImplementedError

    def finish(self) -> None:
        """Finish the set after all blocks have been committed."""


class ZarrStore(Store):
    """zarr v3, one array per column, one shard per block, inner chunks with CRC-32C."""

    kind = "zarr"

    def create(self) -> None:
        """Write the metadata of every array, unless the existing metadata match."""
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
        """Open an array whose metadata and shards are in memory; it writes shards into `held`."""
        zarr = _library("zarr")
        from zarr.core.buffer import default_buffer_prototype

        spec, held = self.columns[column], {} if held is None else held
        with _decoding():
            buffer = default_buffer_prototype().buffer
            held.update({name: buffer.from_bytes(content) for name, content in files.items()})
            # otherwise a block of fill values would create no file
            with zarr.config.set({"array.write_empty_chunks": True}):
                array = zarr.open_array(zarr.storage.MemoryStore(held), mode="r+", zarr_format=3)
            found = (array.shape, array.dtype, array.shards)
            if found != ((self.rows, *spec.shape), np.dtype(spec.dtype), (self.block_rows, *spec.shape)):
                raise ValueError(f"{METADATA} describes another array")
            return array

    def write(self, block: int, values: Mapping[str, np.ndarray]) -> None:
        """Write a block as complete shards."""
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
        """Return one shard file per column."""
        return [self.folder / name / self._shard(name, block) for name in self.columns]


class HDF5Store(Store):
    """HDF5, one file with Fletcher-32 checksums per block, joined by virtual datasets when complete."""

    kind = "hdf5"

    def create(self) -> None:
        """Make the folder."""
        make_folder(self.folder)

    def _path(self, block: int) -> Path:
        return self.folder / f"block-{block:05d}.h5"

    def write(self, block: int, values: Mapping[str, np.ndarray]) -> None:
        """Write the file of a block; it is built in memory, because the HDF5 library crashes on a full disk."""
        h5py = _library("h5py")

        memory = io.BytesIO()
        with h5py.File(memory, "w") as file:
            for name, spec in self.columns.items():
                chunks = (min(CHUNK, len(values[name])), *spec.shape)
                file.create_dataset(name, data=values[name], chunks=chunks, fletcher32=True)
        atomic_write(self._path(block), memory.getbuffer())

    def read(self, column: str, block: int) -> np.ndarray:
        """Read one column of a block's file, which is closed immediately, so that forked workers are safe."""
        h5py = _library("h5py")

        def values(source: Any, **options: Any) -> np.ndarray:
            with h5py.File(source, "r", **options) as file:
                data, rows = file[column], self.span(block)
                wanted = ((rows.stop - rows.start, *self.columns[column].shape), self.columns[column].dtype)
                if (data.shape, data.dtype) != wanted:  # checked before memory is allocated
                    raise ValueError(f"it holds {data.shape} {data.dtype}")
                return data[:]

        try:
            # a file under its final name never changes, and some file systems have no locks
            return values(self._path(block), locking=False)
        except Exception:  # HDF5 raises the same for damage as for a fault of the disk
            content = _content(self._path(block))
        with _decoding():
            return values(io.BytesIO(content))

    def files(self, block: int) -> list[Path]:
        """Return the single file of a block."""
        return [self._path(block)]

    def finish(self) -> None:
        """Join the blocks in ``features.h5``, so that any HDF5 program can read complete columns."""
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
    """Import the library of a store; if it is missing, the files are not reported as damaged."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingPackage(
            f"sets in this store need the package {name}, which cannot be imported ({error}); "
            f"install it: pip install --upgrade {name}"
        ) from error


def _content(path: Path) -> bytes:
    """Read the bytes of a file: errors here are system errors, unless the file is missing."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise ValueError(f"{path.name} is missing") from None


@contextmanager
def _decoding() -> Iterator[None]:
    """Convert the many exception types that the libraries raise on damaged bytes to ValueError."""
    try:
        yield
    except (ImportError, MemoryError):
        raise
    except Exception as error:
        if "can't start new thread" in str(error):  # a system error too
            raise
        raise ValueError(f"{type(error).__name__}: {error}") from error
