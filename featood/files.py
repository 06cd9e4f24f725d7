"""Files that a killed process cannot leave half written."""

from __future__ import annotations

__all__ = ["TEMPORARY", "atomic_write", "digest", "read_json", "seal", "temporary", "unseal", "write_json"]

import hashlib
import json
import os
import uuid
from pathlib import Path
from typing import Any

from featood.errors import CacheCorrupt

TEMPORARY = ".tmp"
"""Suffix of files in the making; whatever still bears it after a kill is rubbish."""


def temporary(path: Path) -> Path:
    """Return a name beside `path` that no other process uses."""
    return path.with_name(f"{path.name}.{uuid.uuid4().hex[:12]}{TEMPORARY}")


def atomic_write(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all, even after a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = temporary(path)
    try:
        with open(scratch, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)


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
