"""The two array stores, zarr and HDF5: the values of a block lie in one piece, and are read as bytes."""

from __future__ import annotations

__all__ = [
    "STORES",
    "ColumnSpec",
    "HDF5Store",
    "Store",
    "ZarrStore",
    "chunk_key",
    "decoding",
    "library",
    "read_dataset",
]

import importlib
import io
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any, ClassVar, TypeVar

import numpy as np

from featood.cache.byte_ranges import Place, bytes_of, content_of, crc32c, fill, opened, read_checked
from featood.errors import MissingPackage
from featood.objects import Location
from featood.storage import atomic_write, make_folder, replacing

METADATA = "zarr.json"
Result = TypeVar("Result")


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
    valid. Its files are written by :mod:`featood.files`, and the values of a column of a block are adjacent in a file.
    """

    kind: ClassVar[str]
    checksums: ClassVar[str] = "crc32c"
    """Entry of the commit records with the checksums that :meth:`read` returns."""

    def __init__(
        self, folder: Location, columns: Mapping[str, ColumnSpec], rows: int, block_rows: int
    ) -> None:
        self.folder = folder
        self.columns = dict(columns)
        self.rows = rows
        self.block_rows = block_rows

    def span(self, block: int) -> slice:
        """Return the rows of a block."""
        return slice(block * self.block_rows, min((block + 1) * self.block_rows, self.rows))

    def shape(self, column: str, block: int) -> tuple[int, ...]:
        """Return the shape of one column of a block."""
        rows = self.span(block)
        return rows.stop - rows.start, *self.columns[column].shape

    def create(self) -> None:
        """Create the empty store, if it does not exist."""

    def write(self, block: int, values: Mapping[str, np.ndarray]) -> None:
        """Write every column of a block."""
        raise NotImplementedError

    def locate(self, column: str, block: int) -> Place:
        """Return where the values of one column of a block are.

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

    def read(self, column: str, block: int, out: np.ndarray) -> tuple[int, Place | None]:
        """Read one column of a block into `out`.

        Returns
        -------
        int
            The checksum of the values, to be compared with the one in the commit record.
        Place or None
            Where they are; None if they cannot be read without the whole block.

        Raises
        ------
        ValueError, OSError, MissingPackage
            As in :meth:`locate`.
        """
        place = self.locate(column, block)
        with opened(place.path) as file:
            file.seek(place.offset)
            found = read_checked(file, out)
            self.check_end(column, block, file, found)
        return found, place

    def check_end(self, column: str, block: int, file: IO[bytes], checksum: int) -> None:
        """Check what follows the values in their file, given their checksum; raise ValueError if it is damaged."""

    def files(self, block: int) -> list[Any]:
        """List the files of a block, each a Path or an ObjectPath."""
        raise NotImplementedError

    def finish(self) -> None:
        """Finish the set after all blocks have been committed."""


class ZarrStore(Store):
    """zarr v3, one array per column and one uncompressed chunk per block, followed by its CRC-32C.

    The arrays are simple enough to be written and read without the library zarr.
    """

    kind = "zarr"

    def create(self) -> None:
        """Write the metadata of every array, unless they exist."""
        for name in self.columns:
            try:
                self._check_metadata(name)
            except ValueError:
                content = json.dumps(self._metadata(name), indent=2).encode()
                atomic_write(self.folder / name / METADATA, content)

    def _metadata(self, column: str) -> dict[str, Any]:
        spec = self.columns[column]
        endian = {"configuration": {"endian": sys.byteorder}} if np.dtype(spec.dtype).itemsize > 1 else {}
        return {
            "shape": [self.rows, *spec.shape],
            "data_type": spec.dtype,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": self._chunk_shape(column)}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": "NaN" if spec.lost != spec.lost else spec.lost,
            "codecs": [{"name": "bytes", **endian}, {"name": "crc32c"}],
            "attributes": {},
            "zarr_format": 3,
            "node_type": "array",
            "storage_transformers": [],
        }

    def _check_metadata(self, column: str) -> None:
        content = content_of(self.folder / column / METADATA)
        with decoding():
            same = json.loads(content) == self._metadata(column)
        if not same:
            raise ValueError(f"{METADATA} describes another array")

    def _chunk_shape(self, column: str) -> list[int]:
        return [min(self.block_rows, self.rows), *self.columns[column].shape]

    def _padding(self, column: str, rows: int) -> np.ndarray:
        """Return what follows the rows of a block: zarr's chunks have one size, also the last."""
        spec, (length, *_) = self.columns[column], self._chunk_shape(column)
        return np.full((length - rows, *spec.shape), spec.lost, spec.dtype)

    def write(self, block: int, values: Mapping[str, np.ndarray]) -> None:
        """Write a block as complete chunks."""
        for column in self.columns:
            parts = [bytes_of(values[column]), bytes_of(self._padding(column, len(values[column])))]
            checksum = crc32c(parts[1], crc32c(parts[0]))
            with replacing(self._path(column, block)) as file:
                for part in parts:
                    file.write(part.data)
                file.write(checksum.to_bytes(4, "little"))

    def locate(self, column: str, block: int) -> Place:
        """Return the chunk of a block, after comparing the metadata of its array."""
        self._check_metadata(column)
        return Place(self._path(column, block), 0)

    def check_end(self, column: str, block: int, file: IO[bytes], checksum: int) -> None:
        """Check the padding of the last block and the CRC-32C at the end of the chunk."""
        padding = bytes_of(self._padding(column, self.shape(column, block)[0]))
        end = np.empty(len(padding) + 4, np.uint8)
        fill(file, end)
        if crc32c(end[:-4], checksum).to_bytes(4, "little") != end[-4:].tobytes() or file.read(1):
            raise ValueError("the chunk does not match its checksum")

    def _path(self, column: str, block: int) -> Location:
        return self.folder / column / chunk_key(block, len(self.columns[column].shape))

    def files(self, block: int) -> list[Any]:
        """Return one chunk per column."""
        return [self._path(column, block) for column in self.columns]


class HDF5Store(Store):
    """HDF5, one file of contiguous datasets per block, joined by virtual datasets when complete."""

    kind = "hdf5"

    def create(self) -> None:
        """Make the folder."""
        make_folder(self.folder)

    def _path(self, block: int) -> Location:
        return self.folder / f"block-{block:05d}.h5"

    def write(self, block: int, values: Mapping[str, np.ndarray]) -> None:
        """Write the file of a block; it is built in memory, because the HDF5 library crashes on a full disk."""
        h5py = library("h5py")

        memory = io.BytesIO()
        with h5py.File(memory, "w") as file:
            for name in self.columns:
                file.create_dataset(name, data=values[name])
        atomic_write(self._path(block), memory.getbuffer())

    def locate(self, column: str, block: int) -> Place:
        """Return where a dataset begins in the file of a block."""
        path, dtype = self._path(block), self.columns[column].dtype
        offset = read_dataset(
            path, column, self.shape(column, block), dtype, lambda data: data.id.get_offset()
        )
        if offset is None:
            raise ValueError("its values are not adjacent")
        return Place(path, offset)

    def files(self, block: int) -> list[Any]:
        """Return the single file of a block."""
        return [self._path(block)]

    def finish(self) -> None:
        """Join the blocks in ``features.h5``, so that any HDF5 program can read complete columns."""
        h5py = library("h5py")

        memory = io.BytesIO()
        with h5py.File(memory, "w", libver="latest") as file:
            for name, spec in self.columns.items():
                layout = h5py.VirtualLayout((self.rows, *spec.shape), dtype=spec.dtype)
                for block in range(-(-self.rows // self.block_rows)):
                    source = h5py.VirtualSource(self._path(block).name, name, self.shape(name, block))
                    layout[self.span(block)] = source
                file.create_virtual_dataset(name, layout, fillvalue=spec.lost)
        atomic_write(self.folder / "features.h5", memory.getbuffer())


STORES: dict[str, type[Store]] = {store.kind: store for store in (ZarrStore, HDF5Store)}


def library(name: str) -> Any:
    """Import the library of a store; if it is missing, the files are not reported as damaged."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingPackage(
            f"sets in this store need the package {name}, which cannot be imported ({error}); "
            f"install it: pip install --upgrade {name}"
        ) from error


def read_dataset(
    path: Location, name: str, shape: tuple[int, ...], dtype: str, read: Callable[[Any], Result]
) -> Result:
    """Return what a function returns for a dataset of an HDF5 file.

    The file is closed immediately, so that forked workers are safe. Errors are those of :meth:`Store.locate`.
    """
    h5py = library("h5py")

    def result(source: Any, **options: Any) -> Result:
        with h5py.File(source, "r", **options) as file:
            data = file[name]
            if (data.shape, data.dtype) != (shape, dtype):  # checked before memory is allocated
                raise ValueError(f"it holds {data.shape} {data.dtype}")
            return read(data)

    try:
        # a file under its final name never changes, and some file systems have no locks
        return result(path, locking=False)
    except Exception:  # HDF5 raises the same for damage as for a fault of the disk
        content = content_of(path)
    with decoding():
        return result(io.BytesIO(content))


def chunk_key(block: int, axes: int) -> str:
    """Return the path of a block below the folder of a zarr array whose rows have some axes."""
    return "/".join(["c", str(block), *["0"] * axes])


@contextmanager
def decoding() -> Iterator[None]:
    """Convert the many exception types that the libraries raise on damaged bytes to ValueError."""
    try:
        yield
    except (ImportError, MemoryError):
        raise
    except Exception as error:
        if "can't start new thread" in str(error):  # a system error too
            raise
        raise ValueError(f"{type(error).__name__}: {error}") from error
