"""Atomic and durable file operations: each takes effect completely or not at all, and is on disk when it returns.

No other module writes, renames or removes files, so these guarantees hold for the whole package: after a killed
process, a full disk or a power cut, a file has either its old or its new content.
"""

from __future__ import annotations

__all__ = [
    "TEMPORARY",
    "append_line",
    "atomic_write",
    "children",
    "create",
    "each",
    "folders_below",
    "lock",
    "make_folder",
    "modified",
    "opened",
    "read_ranges",
    "remove",
    "rename",
    "replacing",
    "resuming",
    "scratch_folder",
    "size_below",
    "size_of",
    "temporary",
    "temporary_folder",
    "unlock",
]

import errno
import os
import shutil
import stat
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

from featood.names import local_path

if TYPE_CHECKING:
    pass

Item = TypeVar("Item")
Result = TypeVar("Result")
TEMPORARY = ".tmp"
"""Suffix of temporary files and folders; those left over after a kill can be deleted."""
PART = ".part"
"""Suffix of files whose writing can be resumed."""
LOCKLESS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL)
"""Error codes of file systems without locks."""


def temporary(path: Path) -> Path:
    """Return a name beside `path` that no other process uses."""
    # a name has at most 255 bytes, including the suffix
    return path.with_name(f"{path.name[:50]}.{uuid.uuid4().hex[:12]}{TEMPORARY}")


def size_of(path: str | Path) -> int | None:
    """Size of a file in bytes; None if it does not exist.

    Raises
    ------
    OSError
        If this cannot be determined, for example without permission, where pathlib reports that there is no file.
    """
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def folders_below(root: str | Path, depth: int) -> list[Path]:
    """List the folders `depth` levels below `root` in order; an empty list if `root` does not exist.

    Raises
    ------
    OSError
        If a folder cannot be read, which a glob would ignore.
    """
    folders = [Path(root)]
    for _ in range(depth):
        found: list[Path] = []
        for folder in folders:
            with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
                found += [Path(entry.path) for entry in entries if entry.is_dir()]
        folders = sorted(found)
    return folders


def children(folder: str | Path) -> list[Path]:
    """List the files and folders in a folder in order; an empty list if it does not exist."""
    try:
        return sorted(Path(folder).iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def size_below(folder: str | Path) -> int:
    """Return the total size of the files below a folder in bytes."""
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())


def modified(path: str | Path) -> float:
    """Return the time of the last change in seconds since 1970."""
    return os.stat(path).st_mtime


def opened(path: str | Path) -> IO[bytes]:
    """Open a file for reading, without a buffer."""
    return open(path, "rb", buffering=0)


def read_ranges(path: str | Path, ranges: Sequence[tuple[int, int]], out: memoryview) -> int:
    """Fill `out` with ranges (start, stop) of bytes of a file, and return the number of bytes that there were."""
    at = 0
    with opened(path) as file:
        for start, stop in ranges:
            file.seek(start)
            end = at + stop - start
            while at < end:
                count = file.readinto(out[at:end])  # type: ignore[attr-defined]
                if not count:
                    return at
                at += count
    return at


def each(place: str | Path, function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Apply a function to each item, one after the other, as local files need no waiting."""
    return [function(item) for item in items]


def make_folder(path: str | Path) -> None:
    """Make a folder and its parents, if they do not exist."""
    path = Path(path)
    if path.is_dir():
        return
    make_folder(path.parent)
    try:
        os.mkdir(path)
    except FileExistsError:
        if not path.is_dir():
            raise
    _sync_folder(path.parent)


@contextmanager
def replacing(path: str | Path) -> Iterator[IO[bytes]]:
    """Context manager of a temporary file that replaces `path` if the block ends without an error.

    Missing folders are created, and links are kept. Devices and pipes (/dev/null, /dev/stdout) are written directly.
    """
    target = local_path(path)
    if target.exists() and not target.is_file():
        with open(target, "wb") as file:
            yield file
        return
    target = target.resolve()
    make_folder(target.parent)
    scratch = temporary(target)
    try:
        with open(scratch, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(scratch, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(scratch)
        raise
    _sync_folder(target.parent)


def atomic_write(path: str | Path, content: bytes | memoryview) -> None:
    """Write a file atomically, so that it is complete or absent even after a power cut."""
    with replacing(path) as file:
        file.write(content)


def append_line(path: str | Path, line: str) -> None:
    """Append one line to a file, in place of an unfinished line that a kill left at its end.

    A reader takes text after the last line break for an unfinished line.
    """
    target = local_path(path)
    make_folder(target.parent)
    with open(target, "a+b") as file:
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
        file.write(f"{line}\n".encode())
        file.flush()
        os.fsync(file.fileno())
    _sync_folder(target.parent)


@contextmanager
def resuming(path: str | Path) -> Iterator[IO[bytes]]:
    """Context manager of ``PATH.part``, opened at its end, which replaces `path` if the block ends without an error.

    After an error the part is kept, and the next block continues it. An empty part is removed.
    """
    target = local_path(path)
    make_folder(target.parent)
    part = target.with_name(target.name + PART)
    try:
        with open(part, "a+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, target)
    except BaseException:
        with suppress(OSError):
            if not part.stat().st_size:
                part.unlink()
        raise
    _sync_folder(target.parent)


def temporary_folder() -> tempfile.TemporaryDirectory[str]:
    """Return a new folder that is removed at the end of a ``with`` block, or of the program."""
    return tempfile.TemporaryDirectory(prefix="featood-")


@contextmanager
def scratch_folder(target: str | Path, unwrap: bool = False) -> Iterator[Path]:
    """Context manager of a temporary folder that becomes `target` if the block ends without an error.

    Parameters
    ----------
    target : path
        Final path; an existing folder must be empty.
    unwrap : bool
        If it contains a single folder and nothing else, that folder becomes `target`.

    Raises
    ------
    OSError
        If `target` exists by then and is not an empty folder.
    """
    target = local_path(target)
    make_folder(target.parent)
    scratch = temporary(target)
    try:
        os.mkdir(scratch)
        yield scratch
        _sync_tree(scratch)
        if target.is_dir():  # Windows would not replace it
            os.rmdir(target)
        inside = list(scratch.iterdir()) if unwrap else []
        if len(inside) == 1 and inside[0].is_dir():
            os.replace(inside[0], target)
            os.rmdir(scratch)
        else:
            os.replace(scratch, target)
    except BaseException:
        with suppress(OSError):
            remove(scratch)
        raise
    _sync_folder(target.parent)


def create(path: str | Path) -> IO[bytes]:
    """Open a new file inside a scratch folder, which syncs it to disk."""
    make_folder(Path(path).parent)
    return open(path, "xb")


def remove(path: str | Path) -> None:
    """Remove a file, a link, or a folder with its content, if it exists."""
    path = Path(path)
    if path.is_dir() and not path.is_symlink():
        while os.path.lexists(path):
            with suppress(FileNotFoundError):  # another process removes the same
                shutil.rmtree(path)
    elif os.path.lexists(path):
        path.unlink(missing_ok=True)
    else:
        return
    _sync_folder(path.parent)


def rename(path: str | Path, name: str) -> None:
    """Give a file another name in its folder, in place of the file that has it."""
    path = Path(path)
    os.replace(path, path.with_name(name))
    _sync_folder(path.parent)


def lock(path: str | Path) -> Any:
    """Acquire a lock that is released by :func:`unlock` or at process exit; None if another process holds it.

    On file systems without locks, it is always granted, so correctness must not depend on it.
    """
    import filelock

    made = filelock.FileLock(path, timeout=0, thread_local=False)
    try:
        made.acquire()
    except filelock.Timeout:
        return None
    except NotImplementedError:
        pass
    except OSError as error:
        if error.errno not in LOCKLESS:
            raise
    return made


def unlock(held: Any) -> None:
    """Release a lock; if the system refuses twice, it is released at process exit."""
    for _ in range(2):
        try:
            return held.release(force=True)
        except OSError:
            continue


def _sync_folder(path: Path) -> None:
    """Sync the entries of a folder to disk; Windows has no such call, and journals them."""
    if os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems
            raise
    finally:
        os.close(handle)


def _sync_tree(folder: Path) -> None:
    def fail(error: OSError) -> None:
        raise error

    for root, _, names in os.walk(folder, topdown=False, onerror=fail):
        for name in names:
            with open(Path(root, name), "r+b") as file:  # Windows syncs only files that are open for writing
                os.fsync(file.fileno())
        _sync_folder(Path(root))
