"""Objects of cloud stores (S3, Google Cloud Storage, Azure, and others that obstore understands) as paths.

Only this module imports obstore. An object appears completely or not at all, so a killed process leaves nothing to
clean up. Requests that fail for a moment are repeated by obstore; what remains is an `OSError` of one line.
"""

from __future__ import annotations

__all__ = [
    "Location",
    "ObjectPath",
    "children",
    "each",
    "folders_below",
    "location",
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

import errno
import functools
import io
import json
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any, TypeAlias, TypeVar
from urllib.parse import urlsplit

from featood.errors import MissingPackage, UsageError
from featood.names import local_path
from featood.sealed import seal

Item = TypeVar("Item")
Result = TypeVar("Result")

PIECE = 8 * 2**20
"""Bytes that one request reads."""
PART = 16 * 2**20
"""Bytes that one request writes; larger objects are sent in parts, and appear when all have arrived."""
REQUESTS = 16
"""Requests at the same time."""
NO_BUCKET = re.compile(r"NoSuchBucket|ContainerNotFound|bucket does not exist", re.IGNORECASE)
NO_CREDENTIALS = re.compile(r"latest/api/token|token request|Account must be specified", re.IGNORECASE)
"""What the errors say when a provider is asked for credentials because the environment has none."""
DENIED = re.compile(r"status code: 40[13]\b")
ASK = (
    "set those of the provider in the environment: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
    "GOOGLE_APPLICATION_CREDENTIALS, or AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY"
)


@dataclass(frozen=True, order=True)
class ObjectPath:
    """The name of an object, or of a folder of objects; the part of :class:`pathlib.Path` that names need.

    It has no ``__fspath__``, so what expects a local path raises TypeError.

    Examples
    --------
    >>> place = ObjectPath("s3://bucket/cache") / "resnet50" / "manifest.json"
    >>> str(place), place.name
    ('s3://bucket/cache/resnet50/manifest.json', 'manifest.json')
    """

    root: str
    """URL of a bucket, or of a folder in it, without credentials."""
    key: PurePosixPath = field(default_factory=PurePosixPath)
    """Path below it."""

    def __truediv__(self, name: str | PurePosixPath) -> ObjectPath:
        return ObjectPath(self.root, self.key / name)

    def __str__(self) -> str:
        return f"{self.root}/{self.key}" if self.key.parts else self.root

    @property
    def name(self) -> str:
        """The last part."""
        return self.key.name

    @property
    def stem(self) -> str:
        """The last part without its suffix."""
        return self.key.stem

    @property
    def parent(self) -> ObjectPath:
        """The folder that contains it; the root contains itself."""
        return ObjectPath(self.root, self.key.parent)

    def relative_to(self, other: ObjectPath) -> PurePosixPath:
        """Return the path below another; ValueError if it is not below it."""
        if not self.is_relative_to(other):
            raise ValueError(f"{self} is not below {other}")
        return PurePosixPath(str(self)[len(str(other)) :].lstrip("/"))

    def is_relative_to(self, other: Any) -> bool:
        """Whether it is below another, or the same."""
        return isinstance(other, ObjectPath) and f"{self}/".startswith(f"{other}/")

    def as_posix(self) -> str:
        """Return the address."""
        return str(self)

    def resolve(self) -> ObjectPath:
        """Return the same: there are no links."""
        return self

    def read_bytes(self) -> bytes:
        """Read the object; FileNotFoundError if there is none."""
        with _reported(self):
            return bytes(_library().get(_store(self.root), str(self.key)).bytes())


Location: TypeAlias = Path | ObjectPath
"""A local file or folder, or an object or a folder of objects."""


def location(path: str | Location) -> Location:
    """Return a local path, or that of objects for a URL such as ``s3://bucket/prefix``.

    Raises
    ------
    UsageError
        If obstore does not know a store for the URL, or it contains credentials.
    MissingPackage
        If obstore is not installed.
    """
    if not isinstance(path, str) or "://" not in path or re.match("(file|https?)://", path):
        return path if isinstance(path, ObjectPath) else local_path(path)
    parts = urlsplit(path)
    if parts.password or parts.query or parts.fragment or (parts.username and parts.scheme[:4] != "abfs"):
        raise UsageError(
            f"a URL of a cache contains no credentials, query or fragment; {ASK}, and give {parts.scheme}://BUCKET/PREFIX"
        )
    root = path.rstrip("/") if parts.netloc else path
    try:
        _store(root)
    except _library().exceptions.BaseError as error:
        raise UsageError(f"{path} is no address of a cache: {_reason(error)}") from None
    return ObjectPath(root)


# ---- operations, with the names and the meaning that they have in ``files`` ---------------------------------


def size_of(path: ObjectPath) -> int | None:
    """Return the size of an object, or None if there is none."""
    try:
        with _reported(path):
            return int(_library().head(_store(path.root), str(path.key))["size"])
    except FileNotFoundError:
        return None


def children(folder: ObjectPath) -> list[ObjectPath]:
    """List the objects and folders in a folder, which need not exist."""
    found = _level(folder)
    return sorted(_at(folder, key) for key in [*found["common_prefixes"], *_keys(found["objects"])])


def folders_below(root: ObjectPath, depth: int) -> list[ObjectPath]:
    """List the folders `depth` levels below `root` in order."""
    folders = [root]
    for _ in range(depth):
        levels = each(root, _level, folders)
        folders = sorted(_at(root, key) for level in levels for key in level["common_prefixes"])
    return folders


def size_below(folder: ObjectPath) -> int:
    """Return the total size of the objects below a folder in bytes."""
    return sum(entry["size"] for entry in _below(folder))


def modified(path: ObjectPath) -> float:
    """Return the time of the last change of an object, or of those below a folder, in seconds since 1970."""
    entries = _below(path)
    if not entries:
        with _reported(path):
            entries = [_library().head(_store(path.root), str(path.key))]
    return float(max(entry["last_modified"].timestamp() for entry in entries))


def make_folder(path: ObjectPath) -> None:
    """Do nothing: folders are only parts of names."""


@contextmanager
def replacing(path: ObjectPath) -> Iterator[IO[bytes]]:
    """Context manager of a file in memory that replaces an object if the block ends without an error."""
    content = io.BytesIO()
    yield content
    with _reported(path):
        _library().put(_store(path.root), str(path.key), content.getbuffer(), chunk_size=PART)


def write_json(path: ObjectPath, value: dict[str, Any]) -> None:
    """Create a sealed JSON record, or replace another in one step, but only the one that was read.

    A request that is repeated, or another process that writes the same record, finds the record that it would write.

    Raises
    ------
    UsageError
        If another process has replaced the record in the meantime.
    """
    exceptions, store, key = _library().exceptions, _store(path.root), str(path.key)
    content = json.dumps(seal(value), indent=1).encode()
    mode: Any = "create"
    for _ in range(2):
        try:
            with _reported(path, exceptions.AlreadyExistsError, exceptions.PreconditionError):
                _library().put(store, key, content, mode=mode)
                return
        except (exceptions.AlreadyExistsError, exceptions.PreconditionError):
            with _reported(path):
                there = _library().get(store, key)
                if bytes(there.bytes()) == content:
                    return
                mode = {name: there.meta[name] for name in ("e_tag", "version") if there.meta[name]}
    raise UsageError(f"another process is writing {path}; wait for it to end")


def remove(path: ObjectPath) -> None:
    """Remove an object and all below it, if they exist."""
    keys = [str(path.key), *_keys(_below(path))]
    with _reported(path):
        try:
            _library().delete(_store(path.root), keys)
        except FileNotFoundError as error:
            if NO_BUCKET.search(str(error)):
                raise


class _Granted:
    def release(self, force: bool = False) -> None:
        """Do nothing."""


def lock(path: ObjectPath) -> _Granted:
    """Return a lock that is always granted: stores have none, and correctness does not depend on them."""
    return _Granted()


def opened(path: ObjectPath) -> IO[bytes]:
    """Read an object by parallel requests and return it as a file; FileNotFoundError if there is none."""
    size = size_of(path)
    if size is None:
        raise FileNotFoundError(errno.ENOENT, "no such object", str(path))
    spans = [(start, min(start + PIECE, size)) for start in range(0, size, PIECE)]
    return io.BytesIO(b"".join(each(path, functools.partial(_read_range, path), spans)))


def read_ranges(path: ObjectPath, ranges: Sequence[tuple[int, int]], out: memoryview) -> int:
    """Fill `out` with ranges of bytes of an object, near ones by one request, and return the number of bytes."""
    starts, ends = zip(*ranges, strict=True)
    with _reported(path):
        parts = _library().get_ranges(_store(path.root), str(path.key), starts=starts, ends=ends)
    at = 0
    for part in parts:
        out[at : at + len(part)] = memoryview(part)
        at += len(part)
    return at


def each(place: ObjectPath, function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Apply a function that waits for the store to each item, several at the same time."""
    with ThreadPoolExecutor(REQUESTS) as pool:
        return list(pool.map(function, items))


# ---- obstore ------------------------------------------------------------------------------------------


def _library() -> Any:
    try:
        import obstore
        import obstore.exceptions
    except ImportError as error:
        raise MissingPackage(
            f"a cache on object storage needs the package obstore, which cannot be imported ({error}); install it: "
            "pip install 'featood[objects]'"
        ) from error
    return obstore


@functools.cache
def _store(root: str) -> Any:
    _library()
    from obstore.store import from_url

    return from_url(root)  # with the settings, credentials and retries that its environment variables give


def _read_range(path: ObjectPath, span: tuple[int, int]) -> Any:
    with _reported(path):
        return _library().get_range(_store(path.root), str(path.key), start=span[0], end=span[1])


def _level(folder: ObjectPath) -> Any:
    with _reported(folder):
        return _library().list_with_delimiter(_store(folder.root), _prefix(folder))


def _below(folder: ObjectPath) -> list[Any]:
    with _reported(folder):
        return [
            entry for page in _library().list(_store(folder.root), prefix=_prefix(folder)) for entry in page
        ]


def _prefix(folder: ObjectPath) -> str | None:
    return str(folder.key) if folder.key.parts else None


def _keys(entries: Iterable[Any]) -> list[str]:
    return [entry["path"] for entry in entries]


def _at(place: ObjectPath, key: str) -> ObjectPath:
    return ObjectPath(place.root, PurePosixPath(key))


@contextmanager
def _reported(path: ObjectPath, *passed: type[Exception]) -> Iterator[None]:
    """Convert obstore's errors, except those in `passed`, to errors of the system with a message of one line."""
    exceptions = _library().exceptions
    try:
        yield
    except passed:
        raise
    except (FileNotFoundError, exceptions.BaseError) as error:
        text = str(error)
        if NO_BUCKET.search(text):
            raise OSError(f"{path.root}: there is no such bucket; create it, or check its name") from None
        if isinstance(error, FileNotFoundError):
            raise FileNotFoundError(errno.ENOENT, "no such object", str(path)) from None
        if NO_CREDENTIALS.search(text):
            raise OSError(f"{path.root}: there are no credentials; {ASK}") from None
        if DENIED.search(text):
            raise OSError(
                f"{path.root}: access is denied ({_reason(error)}); check the credentials in the environment, and what "
                "they permit"
            ) from None
        raise OSError(
            f"{path}: {_reason(error)}; stored data are intact, run the same command again to resume"
        ) from None


def _reason(error: Exception) -> str:
    """Return the status and code of an answer, or the first line of an error without queries, which may be signed."""
    text = str(error)
    found = re.search(r"status code: (\d+ [A-Z][A-Za-z ]+)", text)
    code = re.search(r"<Code>(\w+)</Code>", text)
    if found:
        return f"{found[1]}{f', {code[1]}' if code else ''}"
    return textwrap.shorten(re.sub(r"\?\S+", "", text.partition("\n")[0]), 200, placeholder=" ...")
