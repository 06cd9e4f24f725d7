"""Validation of names that become part of a path, for all operating systems."""

from __future__ import annotations

__all__ = [
    "check_name",
    "find_named",
    "folder_name",
    "label_of",
    "local_path",
    "name_problem",
    "safe_text",
    "shortened",
]

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from featood.errors import UsageError

T = TypeVar("T")
LONGEST = 200
"""Maximum length of a name in bytes; most file systems allow 255, and temporary files add a suffix."""
FORBIDDEN = '/\\:*?"<>|'
COLON = "%3A"
"""For the colon of a head's name in the name of its folder."""
DEVICES = {"con", "prn", "aux", "nul"} | {
    f"{port}{number}" for port in ("com", "lpt") for number in range(10)
}


def name_problem(name: Any) -> str:
    """Return why a value is not a portable name of a file or folder, or an empty string if it is.

    Separators, ``..``, drive letters, control characters, device names of Windows, endings that Windows drops,
    and names longer than 200 bytes are not allowed.

    Examples
    --------
    >>> name_problem("layer3.avg"), name_problem("../x"), name_problem("nul.txt")
    ('', "contains '/'", 'is a device name on Windows')
    """
    if not isinstance(name, str):
        return f"is a {type(name).__name__}, not text"
    if not name or not name.strip(". "):
        return "is empty" if not name else "contains only dots and spaces"
    if not name.isprintable():
        return "contains unprintable characters"
    if found := next((character for character in name if character in FORBIDDEN), ""):
        return f"contains {found!r}"
    if name[-1] in ". " or name[0] == " ":
        return "begins or ends with a space, or ends with a dot"
    if name.split(".")[0].strip().lower() in DEVICES:
        return "is a device name on Windows"
    return f"is longer than {LONGEST} bytes" if len(name.encode()) > LONGEST else ""


def local_path(path: str | os.PathLike[str]) -> Path:
    """Return a local path.

    Raises
    ------
    UsageError
        If it is a URL of a remote store (``s3://bucket/cache``), which as a path would be a folder ``s3:``.
    """
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", os.fspath(path)):  # pathlib has merged the two slashes
        raise UsageError(
            f"{path} is an address, but only local files are supported; give a local folder, such as one where that "
            "store is mounted"
        )
    return Path(path)


def check_name(name: Any, what: str) -> str:
    """Return a name given by the user if it may be part of a path.

    Parameters
    ----------
    name : str
        The name.
    what : str
        What the name is for, used in the message.

    Raises
    ------
    UsageError
        If it may not be part of a path.
    """
    if problem := name_problem(name):
        shown = repr(name) if len(repr(name)) <= 80 else f"{repr(name)[:76]}...'"
        raise UsageError(f"{what} cannot be called {shown}: it {problem}; choose another name")
    return name


def find_named(what: str, name: str, known: Mapping[str, T]) -> T:
    """Return an object by name.

    Raises
    ------
    UsageError
        If there is none of that name; the message suggests the nearest names, or lists all.
    """
    if name not in known:
        import difflib

        by_lower = {other.lower(): other for other in known}
        near = [by_lower[other] for other in difflib.get_close_matches(name.lower(), by_lower, n=3)]
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(known)}"
        raise UsageError(f"there is no {what} '{name}'; {hint}")
    return known[name]


def safe_text(text: str, longest: int = 60) -> str:
    """Convert any text to a valid part of a name: invalid characters to ``%XX``, the end of a long text to a digest.

    Examples
    --------
    >>> safe_text("layer3.avg"), safe_text("a/b")
    ('layer3.avg', 'a%2Fb')
    """
    safe = re.sub(
        r"[%/\\:*?\"<>|]|[^ -~]",
        lambda match: "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", "surrogateescape")),
        text,
    )
    return shortened(safe, longest)


def shortened(text: str, longest: int) -> str:
    """Shorten a text to a length; a digest at its end distinguishes it from others with the same beginning."""
    if len(text) <= longest:
        return text
    import hashlib

    return f"{text[: longest - 9]}~{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def folder_name(label: str) -> str:
    """Return the name of the folder of a fitted head: its label, without the colon of ``pyod:NAME``.

    Examples
    --------
    >>> folder_name("knn@k=5"), folder_name("pyod:KNN@p=1"), label_of("pyod%3AKNN@p=1")
    ('knn@k=5', 'pyod%3AKNN@p=1', 'pyod:KNN@p=1')
    """
    name, at, options = label.partition("@")
    return name.replace(":", COLON) + at + options


def label_of(folder: str) -> str:
    """Return the label of the fitted head in a folder, by the folder's name."""
    name, at, options = folder.partition("@")
    return name.replace(COLON, ":") + at + options
