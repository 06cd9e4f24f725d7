"""Names of sets of images."""

from __future__ import annotations

__all__ = ["StrPath", "checked_name", "dataset_key", "is_path", "path_key"]

import hashlib
import os
import re
from pathlib import Path, PureWindowsPath

from featood.data.images.registry import get_entry
from featood.data.selection import split_limit, with_limit
from featood.errors import UsageError

StrPath = str | os.PathLike[str]


def dataset_key(name: StrPath) -> str:
    """Return the name that :func:`featood.data.open_dataset` gives to a set, without opening it.

    A path, which need not exist, becomes the name of its last folder with a hash; registered names are normalised;
    other names stay unchanged.

    Raises
    ------
    UsageError
        If it cannot be the name of a set.
    """
    name, limit = split_limit(name)
    if limit:
        return with_limit(dataset_key(name), limit)
    text = checked_name(name)
    if is_path(name):
        return path_key(Path(os.path.expanduser(text)))
    base, colon, selector = text.partition(":")
    try:
        return get_entry(base).name + colon + selector
    except UsageError:
        return text


def checked_name(name: StrPath) -> str:
    """Return a name as text.

    Raises
    ------
    UsageError
        If it contains ``..`` or control characters.
    """
    text = os.fspath(name)
    if any(char < " " for char in text) or ".." in PureWindowsPath(text).parts:
        raise UsageError(f"{text!r} cannot be a set of images: `..` and control characters are not allowed")
    return text


def is_path(name: StrPath) -> bool:
    """Whether the name of a set is a path: it is a Path, or begins with `.`, `/` or `~`."""
    text = os.fspath(name)
    return isinstance(name, os.PathLike) or text[:1] in (".", "/", "~") or Path(text).is_absolute()


def path_key(path: Path) -> str:
    """Return the name of a set given by its path: its last folder and a hash, which makes the name unique."""
    real = os.path.realpath(path)
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(real).stem).strip(".-") or "images"
    return f"{slug}-{hashlib.sha256(os.fsencode(real)).hexdigest()[:8]}"
