"""What a cache needs of the storage that it is on: local files (``files``) or objects (``objects``)."""

from __future__ import annotations

__all__ = [
    "atomic_write",
    "children",
    "each",
    "folders_below",
    "lock",
    "make_folder",
    "modified",
    "opened",
    "read_ranges",
    "remove",
    "replacing",
    "size_below",
    "size_of",
    "write_json",
]

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import IO, Any, TypeVar

from featood import files, objects, sealed
from featood.objects import Location, ObjectPath

Item = TypeVar("Item")
Result = TypeVar("Result")


def _of(path: Location) -> Any:
    return objects if isinstance(path, ObjectPath) else files


def size_of(path: Location) -> int | None:
    """Return the size of a file in bytes; None if it does not exist."""
    return _of(path).size_of(path)


def children(folder: Location) -> list[Any]:
    """List the files and folders in a folder; an empty list if it does not exist."""
    return _of(folder).children(folder)


def folders_below(root: Location, depth: int) -> list[Any]:
    """List the folders `depth` levels below `root` in order; an empty list if `root` does not exist."""
    return _of(root).folders_below(root, depth)


def size_below(folder: Location) -> int:
    """Return the total size of the files below a folder in bytes."""
    return _of(folder).size_below(folder)


def modified(path: Location) -> float:
    """Return the time of the last change in seconds since 1970."""
    return _of(path).modified(path)


def make_folder(path: Location) -> None:
    """Make a folder and its parents, if they do not exist."""
    _of(path).make_folder(path)


def replacing(path: Location) -> AbstractContextManager[IO[bytes]]:
    """Context manager of a file that replaces `path` if the block ends without an error."""
    return _of(path).replacing(path)


def atomic_write(path: Location, content: bytes | memoryview) -> None:
    """Write a file, so that it is complete or absent."""
    with replacing(path) as file:
        file.write(content)


def write_json(path: Location, value: dict[str, Any]) -> None:
    """Write a sealed JSON record, so that it is complete or absent."""
    (objects if isinstance(path, ObjectPath) else sealed).write_json(path, value)


def remove(path: Location) -> None:
    """Remove a file, or a folder with its content, if it exists."""
    _of(path).remove(path)


def lock(path: Location) -> Any:
    """Acquire a lock, which :func:`featood.files.unlock` releases; None if another process holds it.

    Where there are no locks, it is always granted, so correctness must not depend on it.
    """
    return _of(path).lock(path)


def opened(path: Location) -> IO[bytes]:
    """Open a file for reading; FileNotFoundError if it does not exist."""
    return _of(path).opened(path)


def read_ranges(path: Location, ranges: Sequence[tuple[int, int]], out: memoryview) -> int:
    """Fill `out` with ranges (start, stop) of bytes of a file, and return the number of bytes that there were."""
    return _of(path).read_ranges(path, ranges, out)


def each(place: Location, function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Apply a function that reads what is at a place to each item; at the same time where reading means waiting."""
    return _of(place).each(place, function, items)
