"""Errors that a user can act on: messages of one line, and exit codes of the command line."""

from __future__ import annotations

__all__ = [
    "CacheCorrupt",
    "DataError",
    "FeatoodError",
    "Mismatch",
    "MissingPackage",
    "NotFitted",
    "UsageError",
]

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager


class FeatoodError(Exception):
    """Base of all errors raised by featood; the message says what to do."""

    exit_code = 1


class UsageError(FeatoodError, ValueError):
    """An invalid name, option or combination of options."""

    exit_code = 2


class NotFitted(UsageError):
    """A head was used for scoring before it was fitted."""


class MissingPackage(UsageError, ImportError):
    """A required library cannot be imported; the message says how to install it."""


class DataError(FeatoodError, ValueError):
    """Input data are missing, malformed, or not finite."""

    exit_code = 3


class CacheCorrupt(FeatoodError):
    """A stored block is missing, incomplete or altered; the message names it."""

    exit_code = 4


class Mismatch(FeatoodError):
    """Two things do not match, such as a head and its features, or a cache and its recipe."""

    exit_code = 5


def advice(error: OSError) -> str:
    """Return advice for an error of the operating system, or an empty string if there is nothing to add."""
    return _ADVICE.get(error.errno or 0, "")


@contextmanager
def reading(path: str | os.PathLike[str]) -> Iterator[None]:
    """Convert any error of a decoder to a DataError of one line that names ``path``.

    Errors not caused by the file (a failing or full disk, lack of memory) are passed through.
    """
    try:
        yield
    except (DataError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and advice(error) and not isinstance(error, PermissionError):
            raise
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"{path} cannot be read: {reason}") from error


_FULL = "free some space, then run the same command again"
_REFUSED = "check the permissions of this path, then run the same command again"
_FAILED = "the disk or the network failed, the stored data may be intact; run the same command again"
_ADVICE = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), _FULL),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), _REFUSED),
    **dict.fromkeys((errno.EIO, errno.ESTALE, errno.ETIMEDOUT), _FAILED),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "allow more open files (ulimit -n)"),
}
