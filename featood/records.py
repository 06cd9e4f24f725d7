"""Schemas of the records on disk, and a function that checks a record against a schema.

A schema is

- a type, or a tuple of types (``bool`` does not count as a number);
- ``[kind]``: a list of values of one kind;
- ``{str: kind}``: a mapping of any names to values of one kind;
- ``{"field": kind, "other?": kind}``: a record with these fields; those with a question mark are optional
  (with ``...: object``, further fields are allowed);
- a function that takes a value and returns the problem with it, or an empty string.
"""

from __future__ import annotations

__all__ = ["check_record", "is_newer", "one_of", "optional", "record_problem", "whole"]

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from featood.errors import CacheCorrupt

if TYPE_CHECKING:
    from featood.objects import Location

LARGEST = 2**53
"""Largest allowed count; JSON readers disagree about larger numbers."""


def whole(low: int = 0, high: int = LARGEST) -> Callable[[Any], str]:
    """Return the schema of integers within inclusive bounds."""

    def problem(value: Any) -> str:
        inside = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
        return "" if inside else f"is not a whole number from {low} to {high}"

    return problem


def is_newer(schema: Any, known: int) -> bool:
    """Whether a record has a later schema version than the known one; False for invalid versions."""
    return not whole(1)(schema) and schema > known


def one_of(values: Collection[str]) -> Callable[[Any], str]:
    """Return the schema of one of several strings."""

    def problem(value: Any) -> str:
        return "" if isinstance(value, str) and value in values else f"is none of {', '.join(values)}"

    return problem


def optional(kind: Any) -> Callable[[Any], str]:
    """Return the schema of a value of a kind, or None."""
    return lambda value: "" if value is None else record_problem(value, kind)[1]


def record_problem(value: Any, kind: Any, field: str = "") -> tuple[str, str]:
    """Return the first field that violates the schema and the problem with it, or two empty strings."""
    if kind is object:
        return "", ""
    if isinstance(kind, list):
        if not isinstance(value, list):
            return field, "is not a list"
        parts = ((f"{field}[{place}]", part, kind[0]) for place, part in enumerate(value))
        return _first(parts)
    if isinstance(kind, dict):
        return _mapping_problem(value, kind, field)
    if isinstance(kind, type | tuple):
        kinds = kind if isinstance(kind, tuple) else (kind,)
        inside = isinstance(value, kinds) and (not isinstance(value, bool) or bool in kinds)
        return ("", "") if inside else (field, f"is not {' or '.join(one.__name__ for one in kinds)}")
    problem = kind(value)
    return (field, problem) if problem else ("", "")


def _mapping_problem(value: Any, kind: dict[Any, Any], field: str) -> tuple[str, str]:
    if not isinstance(value, dict):
        return field, "is not a mapping"
    dot = f"{field}." if field else ""
    if str in kind:
        return _first((f"{dot}{name}", part, kind[str]) for name, part in value.items())
    kinds = {str(name).removesuffix("?"): part for name, part in kind.items() if name is not ...}
    needed = [name for name in kind if name is not ... and not name.endswith("?")]
    if missing := [name for name in needed if name not in value]:
        return f"{dot}{missing[0]}", "is missing"
    if ... not in kind and (more := [name for name in value if name not in kinds]):
        return f"{dot}{more[0]}", "is not known"
    return _first((f"{dot}{name}", value[name], part) for name, part in kinds.items() if name in value)


def _first(parts: Any) -> tuple[str, str]:
    for field, part, kind in parts:
        if (found := record_problem(part, kind, field))[1]:
            return found
    return "", ""


def check_record(value: Any, kind: Any, path: Location, advice: str) -> Any:
    """Return a record after checking it against a schema.

    Raises
    ------
    CacheCorrupt
        If it does not match; the message names the file, the field and its value.
    """
    field, problem = record_problem(value, kind)
    if problem:
        raise CacheCorrupt(f"{path}: {field[:80] or 'the record'} {problem}; {advice}")
    return value
