"""Reading of sets of the earlier layout (schema 1): chunks of 256 rows, and CRC-32 in the commit records."""

from __future__ import annotations

__all__ = ["EARLIER_STORES"]

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np

from featood.cache.byte_ranges import Place, content_of, crc32
from featood.cache.stores import METADATA, Store, chunk_key, decoding, library, read_dataset


class EarlierStore(Store):
    """A store whose blocks can be read, but not written."""

    checksums: ClassVar[str] = "columns"

    def read(self, column: str, block: int, out: np.ndarray) -> tuple[int, Place | None]:
        """Read one column of a block; its rows cannot be read apart, as they lie in chunks with own checksums."""
        out[...] = self.decoded(column, block)
        return crc32(out), None

    @abstractmethod
    def decoded(self, column: str, block: int) -> np.ndarray:
        """Decode one column of a block; errors as in :meth:`Store.locate`."""


class EarlierZarrStore(EarlierStore):
    """zarr v3, one array per column, one shard per block, inner chunks with CRC-32C."""

    kind = "zarr"

    def decoded(self, column: str, block: int) -> np.ndarray:
        """Decode one shard in memory."""
        zarr = library("zarr")
        from zarr.core.buffer import default_buffer_prototype

        spec, shard = self.columns[column], chunk_key(block, len(self.columns[column].shape))
        files = {name: content_of(self.folder / column / name) for name in (METADATA, shard)}
        with decoding():
            buffer = default_buffer_prototype().buffer
            held = {name: buffer.from_bytes(content) for name, content in files.items()}
            array = zarr.open_array(zarr.storage.MemoryStore(held), mode="r", zarr_format=3)
            found = (array.shape, array.dtype, array.shards)
            if found != ((self.rows, *spec.shape), np.dtype(spec.dtype), (self.block_rows, *spec.shape)):
                raise ValueError(f"{METADATA} describes another array")
            return np.asarray(array[self.span(block)])

    def files(self, block: int) -> list[Any]:
        """Return one shard per column."""
        return [self.folder / name / chunk_key(block, len(spec.shape)) for name, spec in self.columns.items()]


class EarlierHDF5Store(EarlierStore):
    """HDF5, one file with Fletcher-32 checksums per block."""

    kind = "hdf5"

    def decoded(self, column: str, block: int) -> np.ndarray:
        """Decode one dataset."""
        (path,), dtype = self.files(block), self.columns[column].dtype
        return read_dataset(path, column, self.shape(column, block), dtype, lambda data: np.asarray(data[:]))

    def files(self, block: int) -> list[Any]:
        """Return the single file of a block."""
        return [self.folder / f"block-{block:05d}.h5"]


EARLIER_STORES: dict[str, type[EarlierStore]] = {
    store.kind: store for store in (EarlierZarrStore, EarlierHDF5Store)
}
