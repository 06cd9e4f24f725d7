"""Errors a user can act on: one line each, and the exit code the command line ends with."""

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


class FeatoodError(Exception):
    """Base of every error that featood raises on purpose; its text says what to do."""

    exit_code = 1


class UsageError(FeatoodError, ValueError):
    """A wrong name, option or combination of them."""

    exit_code = 2


class NotFitted(UsageError):
    """A head was asked for scores before it was fitted."""


class MissingPackage(UsageError, ImportError):
    """A library that this needs cannot be imported; the text says how to get it."""


class DataError(FeatoodError, ValueError):
    """Input data are missing, malformed, or not finite."""

    exit_code = 3


class CacheCorrupt(FeatoodError):
    """A stored block is missing, incomplete or altered; the text names it."""

    exit_code = 4


class Mismatch(FeatoodError):
    """Two things that must belong together do not: a head and its features, a cache and its recipe."""

    exit_code = 5


def advice(error: OSError) -> str:
    """Say what to do about a refusal of the operating system; empty where its own words are all there is to say."""
    return _ADVICE.get(error.errno or 0, "")


_FULL = "free some space, then run the same command again"
_REFUSED = "see who may read and write there, then run the same command again"
_FAILED = (
    "the disk or the network failed, which says nothing about what is stored; run the same command again"
)
_ADVICE = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), _FULL),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), _REFUSED),
    **dict.fromkeys((errno.EIO, errno.ESTALE, errno.ETIMEDOUT), _FAILED),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "allow more open files (ulimit -n)"),
}
