"""From the fields of a head to options of a command, and from words on a command line to their values."""

from __future__ import annotations

__all__ = ["option_kind", "parse_grid"]

import dataclasses
import types
import typing
from typing import Any

import rich_click as click
from click.types import convert_type

from featood.errors import UsageError


def option_kind(hint: Any) -> tuple[type, bool]:
    """Return the plain type of an annotation, and whether it is a tuple of it."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
    if typing.get_origin(hint) is tuple:
        return typing.get_args(hint)[0], True
    return (hint if hint in (bool, int, float, str) else str), False


def parse_grid(head: str, texts: tuple[str, ...]) -> dict[str, list[Any]]:
    """Turn ``k=10,50`` and the like into values by option, of the types that the head declares.

    Raises
    ------
    UsageError
        When the head has no such option, it is named twice, or a value is of another type.
    """
    from featood.heads import head_class

    cls = head_class(head)
    hints, known = typing.get_type_hints(cls), [field.name for field in dataclasses.fields(cls)]
    grid: dict[str, list[Any]] = {}
    for text in texts:
        flag, named, values = text.partition("=")
        if not named:
            raise UsageError(f"a grid is written option=value,..., not '{text}'")
        name = flag.strip().replace("-", "_")
        if name not in known:
            raise UsageError(
                f"{head} has no option '{flag}' (it has: {', '.join(known)}); write option=value,..."
            )
        if name in grid:
            raise UsageError(f"{name} is named twice; give it all its values at once")
        grid[name] = [_value(part.strip(), hints[name], name) for part in values.split(",")]
    return grid


def _value(text: str, hint: Any, name: str) -> Any:
    kind, many = option_kind(hint)
    if many:
        return tuple(_value(part, kind, name) for part in filter(None, text.split("+")))
    try:
        return convert_type(kind)(text)
    except click.BadParameter:
        raise UsageError(f"'{text}' is not a value for {name}, which takes {kind.__name__}") from None
