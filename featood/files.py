"""Every change that the package makes to files: whole or not at all, and on the disk once the call returns.

Nothing else in the package writes, renames or removes files, so what is promised here holds everywhere: a killed
process, a full disk or a power cut leaves the file that was there before or the one that was to come.
"""

from __future__ import annotations

__all__ = [
    "TEMPORARY",
    "atomic_write",
    "create",
    "digest",
    "folders_below",
    "lock",
    "make_folder",
    "read_json",
    "remove",
    "replacing",
    "scratch_folder",
    "seal",
    "size_of",
    "temporary",
    "unlock",
    "unseal",
    "write_json",
]

import errno
import hashlib
import json
import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from featood.errors import CacheCorrupt
from featood.names import local_path

TEMPORARY = ".tmp"
"""Suffix of files and folders in the making; whatever still bears it after a kill is rubbish."""
LOCKLESS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL)
"""What file systems without locks answer."""


def temporary(path: Path) -> Path:
    """Return a name beside `path` that no other process uses."""
    # a name may take no more than 255 bytes, suffix included
    return path.with_name(f"{path.name[:50]}.{uuid.uuid4().hex[:12]}{TEMPORARY}")


def size_of(path: str | Path) -> int | None:
    """Bytes of a file; None where there is none.

    Raises
    ------
    OSError
        When it cannot be told, as for want of a permission, which pathlib's questions would take for a no.
    """
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def folders_below(root: str | Path, depth: int) -> list[Path]:
    """List the folders `depth` levels below one, in order; none where it is not there.

    Raises
    ------
    OSError
        When one cannot be read, which a glob would pass over.
    """
    folders = [Path(root)]
    for _ in range(depth):
        found: list[Path] = []
        for folder in folders:
            with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
                found += [Path(entry.path) for entry in entries if entry.is_dir()]
        folders = sorted(found)
    return folders


def make_folder(path: str | Path) -> None:
    """Make a folder, and those above it; harmless where it is there."""
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
    """Lend a file that takes the place of `path` when the block ends without an error.

    Missing folders are made, and a link stays a link. Devices and pipes (/dev/null, /dev/stdout) are written straight.
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
    """Write a file so that it is there whole or not at all, even after a power cut."""
    with replacing(path) as file:
        file.write(content)


@contextmanager
def scratch_folder(target: str | Path, unwrap: bool = False) -> Iterator[Path]:
    """Lend a new folder that becomes `target`, with all that is in it, when the block ends without an error.

    Parameters
    ----------
    target : path
        Its name to be; a folder of that name must be empty.
    unwrap : bool
        Where all there is in it is one folder, that one becomes `target`.

    Raises
    ------
    OSError
        When `target` is there by then, and is not an empty folder.
    """
    target = local_path(target)
    make_folder(target.parent)
    scratch = temporary(target)
    try:
        os.mkdir(scratch)
        yield scratch
        _sync_tree(scratch)
        if target.is_dir():  # which Windows would not replace
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
    """Open a new file inside a scratch folder, which sees to it that it reaches the disk."""
    make_folder(Path(path).parent)
    return open(path, "xb")


def remove(path: str | Path) -> None:
    """Remove a file, a link, or a folder with all that is in it; harmless where it is gone."""
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


def lock(path: str | Path) -> Any:
    """Take a lock that ends with the process, or by :func:`unlock`; None where another process holds it.

    On file systems without locks it is granted to everybody, so nothing may hang on it but comfort.
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
    """Give a lock back; where the system refuses twice it ends with the process, and what was done stays done."""
    for _ in range(2):
        try:
            return held.release(force=True)
        except OSError:
            continue


def _sync_folder(path: Path) -> None:
    """Force the names in a folder to disk; Windows has no such call, and journals them."""
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
            with open(Path(root, name), "r+b") as file:  # Windows syncs only what is open for writing
                os.fsync(file.fileno())
        _sync_folder(Path(root))


def digest(value: Any) -> str:
    """SHA-256 of a JSON value's canonical text."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def seal(value: dict[str, Any]) -> dict[str, Any]:
    """Add the digest that lets a reader notice an altered record."""
    return {**value, "sha256": digest(value)}


def unseal(value: Any, path: Path) -> dict[str, Any]:
    """Check and remove the digest of a sealed record.

    Raises
    ------
    CacheCorrupt
        When the record does not match its digest.
    """
    try:
        body = {key: item for key, item in value.items() if key != "sha256"}
        sound = value.get("sha256") == digest(body)
    except (AttributeError, RecursionError, ValueError):  # no mapping, too deep, lone surrogates
        sound = False
    if not sound:
        raise CacheCorrupt(f"{path} does not match its own checksum; extract this set again with --overwrite")
    return body


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write a sealed JSON record atomically."""
    atomic_write(path, json.dumps(seal(value), indent=1).encode())


def read_json(path: Path) -> dict[str, Any]:
    """Read a sealed JSON record.

    Raises
    ------
    CacheCorrupt
        When the file is missing, is not JSON, or was altered.
    """
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise CacheCorrupt(f"{path} is missing; extract this set again with --overwrite") from None
    except (ValueError, RecursionError):
        raise CacheCorrupt(f"{path} is not readable JSON; extract this set again with --overwrite") from None
    return unseal(value, path)
