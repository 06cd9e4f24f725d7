"""Heads with their options as one line of text, so that a composition's members are an option of its own."""

from __future__ import annotations

__all__ = ["create_member", "join_member", "spell", "split_member"]

import json
import shlex
from collections.abc import Mapping
from typing import Any

from featood.errors import UsageError
from featood.heads.base.head import Head
from featood.heads.registry import create_head


def create_member(text: str, nonfinite: str) -> Head:
    """Create a head from ``name option=value ...``; ``preset=...`` is understood too.

    Parameters
    ----------
    text : str
        Words as in a shell; values in JSON, where they are not plain words.
    nonfinite : str
        That option of the head, which the composition decides.

    Raises
    ------
    UsageError
        When the head or an option is unknown.
    """
    name, options = split_member(text)
    return create_head(name, **options | {"nonfinite": nonfinite})


def split_member(text: str) -> tuple[str, dict[str, Any]]:
    """Read a head's name and its options.

    Raises
    ------
    UsageError
        When a word is no option, or a quote is not closed.
    """
    try:
        name, *pairs = shlex.split(text) or [""]
    except ValueError as error:
        raise UsageError(f"compose: '{text}' is no head with its options: {error}") from None
    options: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"compose: '{pair}' in '{text}' is not an option; write name=value")
        options[key.replace("-", "_")] = _value(value)
    return name, options


def join_member(name: str, options: Mapping[str, Any]) -> str:
    """Write a head's name and its options as :func:`split_member` reads them."""
    return shlex.join([name, *(f"{option}={_text(value)}" for option, value in options.items())])


def spell(head: Head) -> str:
    """Write a head as :func:`create_member` reads it."""
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
