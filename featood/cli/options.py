"""Parsing of command-line words into values of the options of heads and networks."""

from __future__ import annotations

__all__ = ["parse_grid", "parse_pairs"]

import json
from typing import TYPE_CHECKING, Any

import rich_click as click
from click.types import convert_type

from featood.errors import UsageError

if TYPE_CHECKING:
    from featood.options import OptionEntry


def parse_grid(head: str, texts: tuple[str, ...]) -> dict[str, list[Any]]:
    """Parse texts such as ``k=10,50`` into values by option, with the types that the head declares.

    Raises
    ------
    UsageError
        If the head has no such option, an option is given twice, or a value has another type.
    """
    from featood.heads import head_entry

    known = {option.name: option for option in head_entry(head).options}
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
            raise UsageError(f"{name} is given twice; list all its values at once")
        grid[name] = [_value(part.strip(), known[name]) for part in values.split(",")]
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
