"""Names and paths of sets."""

from __future__ import annotations

__all__ = ["StrPath", "checked_name", "default_data_dir", "is_path", "path_key"]

import hashlib
import os
import re
from pathlib import Path, PureWindowsPath

from featood.errors import UsageError

StrPath = str | os.PathLike[str]


def default_data_dir() -> Path:
    """Return the folder of sets: the environment variable FEATOOD_DATA, or ``./data``."""
    return Path(os.environ.get("FEATOOD_DATA") or "data")


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
