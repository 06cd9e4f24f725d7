"""Reading of bytes at known places of files, with a checksum or by rows."""

from __future__ import annotations

__all__ = [
    "Place",
    "bytes_of",
    "content_of",
    "crc32",
    "crc32c",
    "fill",
    "opened",
    "read_checked",
    "read_runs",
]

import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any, NamedTuple

import google_crc32c
import numpy as np

from featood import storage
from featood.objects import Location

PIECE = 2**20
"""Bytes that are read at once, so that their checksum is computed while they are in the processor's cache."""


class Place(NamedTuple):
    """Where the values of one column of a block are."""

    path: Location
    offset: int
    """Byte of the file at which they begin."""


@contextmanager
def opened(path: Location) -> Iterator[IO[bytes]]:
    """Open a file for reading: errors are those of the system, but ValueError if it is missing."""
    with _present(path):
        file = storage.opened(path)
    with file:
        yield file


@contextmanager
def _present(path: Location) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise ValueError(f"{path.name} is missing") from None


def content_of(path: Location) -> bytes:
    """Read all bytes of a file; errors as in :func:`opened`."""
    with opened(path) as file:
        return file.read()


def fill(file: Any, out: np.ndarray) -> None:
    """Fill an array of bytes from a file; ValueError if the file ends before."""
    left = memoryview(out)  # type: ignore[arg-type]
    while left:
        count = file.readinto(left)
        if not count:
            raise ValueError("the file is truncated")
        left = left[count:]


def read_checked(file: Any, out: np.ndarray) -> int:
    """Fill an array from a file, and return the CRC-32C of its bytes."""
    flat, found = bytes_of(out), 0
    for start in range(0, len(flat), PIECE):
        piece = flat[start : start + PIECE]
        fill(file, piece)
        found = crc32c(piece, found)
    return found


def read_runs(place: Place, runs: Sequence[tuple[int, int]], out: np.ndarray) -> None:
    """Read some rows of a block into `out`, without a checksum.

    Parameters
    ----------
    place : Place
        Where the values of the block are.
    runs : sequence of pair of int
        First and last row (exclusive) of adjacent rows.
    out : array
        As many rows.

    Raises
    ------
    ValueError
        If the file is missing, or ends before them.
    OSError
        If it cannot be read.
    """
    width, flat = out.nbytes // len(out), bytes_of(out)
    ranges = [(place.offset + start * width, place.offset + stop * width) for start, stop in runs]
    with _present(place.path):
        count = storage.read_ranges(place.path, ranges, flat.data)
    if count < len(flat):
        raise ValueError("the file is truncated")


def crc32(values: np.ndarray) -> int:
    """Return the CRC-32 of an array's bytes."""
    return zlib.crc32(bytes_of(values).data)


def crc32c(values: np.ndarray, start: int = 0) -> int:
    """Return the CRC-32C of an array's bytes, continued from that of the bytes before them."""
    return int(google_crc32c.extend(start, bytes_of(values)))


def bytes_of(values: np.ndarray) -> np.ndarray:
    """Return the bytes of an array, as a view if its values are adjacent."""
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8)
