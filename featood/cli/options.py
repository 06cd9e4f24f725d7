"""Parsing of command-line words into values of the options of heads and networks."""

from __future__ import annotations

__all__ = ["parse_grid", "parse_pairs"]

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import rich_click as click
from click.types import convert_type

from featood.errors import UsageError

if TYPE_CHECKING:
    from featood.options import OptionEntry


def parse_grid(name: str, options: Iterable[OptionEntry], texts: tuple[str, ...]) -> dict[str, list[Any]]:
    """Parse texts such as ``k=10,50`` into values by option, with the types that a head or model declares.

    Raises
    ------
    UsageError
        If it has no such option, an option is given twice, or a value has another type.
    """
    known = {option.name: option for option in options}
    grid: dict[str, list[Any]] = {}
    for text in texts:
        flag, named, values = text.partition("=")
        if not named:
            raise UsageError(f"a grid is written option=value,..., not '{text}'")
        key = flag.strip().replace("-", "_")
        if key not in known:
            raise UsageError(
                f"{name} has no option '{flag}' (it has: {', '.join(known)}); write option=value,..."
            )
        if key in grid:
            raise UsageError(f"{key} is given twice; list all its values at once")
        grid[key] = [_value(part.strip(), known[key]) for part in values.split(",")]
    return grid


def _value(text: str, option: OptionEntry) -> Any:
    if option.many:
        return tuple(_converted(part, option) for part in filter(None, text.split("+")))
    return _converted(text, option)


def _converted(text: str, option: OptionEntry) -> Any:
    try:
        return convert_type(option.type)(text)
    except click.BadParameter:
        raise UsageError(f"'{text}' is not a value for {option.name}, which takes {option.kind}") from None


def parse_pairs(texts: tuple[str, ...]) -> dict[str, Any]:
    """Parse options of a network, NAME=VALUE; numbers and true or false are recognised.

    Raises
    ------
    UsageError
        If a text has another form.
    """
    pairs: dict[str, Any] = {}
    for text in texts:
        name, named, value = text.partition("=")
        if not named:
            raise UsageError(f"an option of the network is written NAME=VALUE, not '{text}'")
        try:
            pairs[name.replace("-", "_")] = json.loads(value)
        except ValueError:
            pairs[name.replace("-", "_")] = value
    return pairs
