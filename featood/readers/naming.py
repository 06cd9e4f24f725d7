"""Finding columns by name or position, and listing them in messages."""

from __future__ import annotations

__all__ = ["column_position", "listed"]

import difflib
from collections.abc import Sequence
from pathlib import Path

from featood.errors import UsageError

SHOWN = 8


def column_position(wanted: str, names: Sequence[str], path: Path) -> int:
    """Find a column by its name, or by its position (negative ones count from the end).

    Raises
    ------
    UsageError
        If there is none; the message suggests the closest name.
    """
    if wanted in names:
        return names.index(wanted)
    try:
        place = int(wanted)
    except ValueError:
        near = difflib.get_close_matches(wanted, names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"it has {listed([name for name in names if name])}"
        raise UsageError(f"{path} has no column {wanted!r}: {hint}") from None
    if not -len(names) <= place < len(names):
        raise UsageError(f"{path} has {len(names)} columns, none at position {place}")
    return place % len(names)


def listed(names: Sequence[str]) -> str:
    """Join the first names of a list."""
    return ", ".join(names[:SHOWN]) + (f", ... ({len(names)} in all)" if len(names) > SHOWN else "")
