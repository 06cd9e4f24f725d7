"""Sealed JSON records: with a digest by which readers detect an altered one."""

from __future__ import annotations

__all__ = ["digest", "read_json", "seal", "unseal", "write_json"]

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featood.errors import CacheCorrupt
from featood.files import atomic_write

if TYPE_CHECKING:
    from featood.objects import Location

AGAIN = "extract this set again with --overwrite"


def digest(value: Any) -> str:
    """SHA-256 of a JSON value's canonical text."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def seal(value: dict[str, Any]) -> dict[str, Any]:
    """Add a digest with which readers detect an altered record."""
    return {**value, "sha256": digest(value)}


def unseal(value: Any, path: Location, advice: str = AGAIN) -> dict[str, Any]:
    """Check and remove the digest of a sealed record.

    Raises
    ------
    CacheCorrupt
        If the record does not match its digest.
    """
    try:
        body = {key: item for key, item in value.items() if key != "sha256"}
        sound = value.get("sha256") == digest(body)
    except (AttributeError, RecursionError, ValueError):  # no mapping, too deep, lone surrogates
        sound = False
    if not sound:
        raise CacheCorrupt(f"{path} does not match its own checksum; {advice}")
    return body


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write a sealed JSON record atomically."""
    atomic_write(path, json.dumps(seal(value), indent=1).encode())


def read_json(path: Location, advice: str = AGAIN) -> dict[str, Any]:
    """Read a sealed JSON record; errors end with the advice.

    Raises
    ------
    CacheCorrupt
        If the file is missing, is not JSON, or was altered.
    """
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise CacheCorrupt(f"{path} is missing; {advice}") from None
    except (ValueError, RecursionError):
        raise CacheCorrupt(f"{path} is not readable JSON; {advice}") from None
    return unseal(value, path, advice)
