"""Parse and format heads with their options as one line of text, used in the option `members` of compositions."""

from __future__ import annotations

__all__ = ["create_member", "format_member", "join_member", "split_member"]

import json
import shlex
from collections.abc import Mapping
from typing import Any

from featood.errors import UsageError
from featood.heads.base.head import Head
from featood.heads.registry import create_head


def create_member(text: str, nonfinite: str) -> Head:
    """Create a head from ``name option=value ...``; ``preset=...`` is accepted too.

    Parameters
    ----------
    text : str
        Words quoted as in a shell; values that are not plain words are written as JSON.
    nonfinite : str
        The head's option `nonfinite`, which the composition sets.

    Raises
    ------
    UsageError
        If the head or an option is unknown.
    """
    name, options = split_member(text)
    return create_head(name, **options | {"nonfinite": nonfinite})


def split_member(text: str) -> tuple[str, dict[str, Any]]:
    """Parse the name and options of a head.

    Raises
    ------
    UsageError
        If a word is not an option, or a quote is not closed.
    """
    try:
        name, *pairs = shlex.split(text) or [""]
    except ValueError as error:
        raise UsageError(
            f"compose: '{text}' is not a valid head with options: {error}; write name option=value ..."
        ) from None
    options: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"compose: '{pair}' in '{text}' is not an option; write name=value")
        options[key.replace("-", "_")] = _value(value)
    return name, options


def join_member(name: str, options: Mapping[str, Any]) -> str:
    """Format a head's name and options as :func:`split_member` parses them."""
    return shlex.join([name, *(f"{option}={_text(value)}" for option, value in options.items())])


def format_member(head: Head) -> str:
    """Format a head as :func:`create_member` parses it."""
    return join_member(
        head.name, {name: value for name, value in head.options.items() if name != "nonfinite"}
    )


def _value(text: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return tuple(value) if isinstance(value, list) else value


def _text(value: Any) -> str:
    plain = isinstance(value, str) and _value(value) == value
    return value if plain else json.dumps(value)
