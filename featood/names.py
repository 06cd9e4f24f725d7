"""Names that may become part of a path: of files and folders on any system, and of nothing beyond."""

from __future__ import annotations

__all__ = ["check_name", "local_path", "name_problem", "safe_text", "shortened"]

import os
import re
from pathlib import Path
from typing import Any

from featood.errors import UsageError

LONGEST = 200
"""Bytes of a name; most file systems end at 255, and scratch files add to it."""
FORBIDDEN = '/\\:*?"<>|'
DEVICES = {"con", "prn", "aux", "nul"} | {
    f"{port}{number}" for port in ("com", "lpt") for number in range(10)
}


def name_problem(name: Any) -> str:
    """Say why something cannot be the name of a file or folder everywhere; empty where it can.

    Separators, ``..``, drive letters, control characters, names that Windows keeps for devices, endings that it drops,
    and names longer than 200 bytes are refused.

    Examples
    --------
    >>> name_problem("layer3.avg"), name_problem("../x"), name_problem("nul.txt")
    ('', "holds '/'", 'is the name of a device on Windows')
    """
    if not isinstance(name, str):
        return f"is a {type(name).__name__}, not text"
    if not name or not name.strip(". "):
        return "is empty" if not name else "holds nothing but dots and spaces"
    if not name.isprintable():
        return "holds characters that cannot be printed"
    if held := next((character for character in name if character in FORBIDDEN), ""):
        return f"holds {held!r}"
    if name[-1] in ". " or name[0] == " ":
        return "begins or ends with a space, or ends with a dot"
    if name.split(".")[0].strip().lower() in DEVICES:
        return "is the name of a device on Windows"
    return f"is longer than {LONGEST} bytes" if len(name.encode()) > LONGEST else ""


def local_path(path: str | os.PathLike[str]) -> Path:
    """Return a path on this machine.

    Raises
    ------
    UsageError
        When it is the address of a store elsewhere (``s3://bucket/cache``), which as a path would be a folder ``s3:``.
    """
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", os.fspath(path)):  # pathlib has made one slash of two
        raise UsageError(
            f"{path} is an address, and files are kept on this machine alone; name a folder, such as one where that "
            "store is mounted"
        )
    return Path(path)


def check_name(name: Any, what: str) -> str:
    """Return a name that someone typed, where it may be part of a path.

    Parameters
    ----------
    name : str
        The name.
    what : str
        What is to bear it, for the message.

    Raises
    ------
    UsageError
        When it may not.
    """
    if problem := name_problem(name):
        shown = repr(name) if len(repr(name)) <= 80 else f"{repr(name)[:76]}...'"
        raise UsageError(f"{what} cannot be called {shown}: it {problem}; choose another name")
    return name


def safe_text(text: str, longest: int = 60) -> str:
    """Write any text as part of a name: what a name cannot hold as ``%XX``, the rest of a long text as a digest.

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
    """Cut a text to a length; a digest at its end tells it from others that begin so."""
    if len(text) <= longest:
        return text
    import hashlib

    return f"{text[: longest - 9]}~{hashlib.sha256(text.encode()).hexdigest()[:8]}"
