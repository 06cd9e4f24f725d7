"""Options that had other names or values, so that heads fitted by earlier versions load with the same scores.

One entry a head, and ``"*"`` for all that have none of their own: the option as it was, and a function from its value
to the options that say the same now. An entry may return several options, or none where it no longer matters.
An option is taken for an old one only where the head has none of that name any more.
"""

from __future__ import annotations

__all__ = ["RENAMED", "mistyped", "renamed"]

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from featood.heads.base.head import Head

RENAMED: dict[str, dict[str, Callable[[Any], Mapping[str, Any]]]] = {
    "*": {
        "standardize": lambda on: {"space": "standardize" if on else "none"},
        "normalize": lambda on: {"space": "l2" if on else "none"},
    },
    # its prior is the classifier; a head that looked at other rows than those it knows is not to be had any more
    "heat-el": {"normalize": lambda on: {"space": "l2"} if on else {}},
}


def renamed(cls: type[Head], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of an earlier version under their present names; those that are unknown stay as they are.

    Members of a composition, which are options of their own, get theirs too.
    """
    known = {field.name for field in dataclasses.fields(cls)}
    table = RENAMED.get(cls.card.name, RENAMED.get("*", {}))
    found: dict[str, Any] = {}
    for name, value in options.items():
        found |= table[name](value) if name in table and name not in known else {name: value}
    if isinstance(members := found.get("members"), tuple) and "members" in known:
        found["members"] = tuple(_respelled(text) if isinstance(text, str) else text for text in members)
    return found


def _respelled(text: str) -> str:
    from featood.heads.compositions._members import join_member, split_member
    from featood.heads.registry import head_class

    name, options = split_member(text)
    return join_member(name, renamed(head_class(name), options))


def mistyped(cls: type[Head], options: Mapping[str, Any]) -> str:
    """Name an option whose value is of another type than the head declares; empty where none is."""
    hints = typing.get_type_hints(cls)
    return next(
        (name for name, value in options.items() if name in hints and not _is(value, hints[name])), ""
    )


def _is(value: Any, hint: Any) -> bool:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return any(_is(value, part) for part in typing.get_args(hint))
    if typing.get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(_is(part, typing.get_args(hint)[0]) for part in value)
    if hint is None or hint is type(None):
        return value is None
    if not isinstance(hint, type):
        return True
    if isinstance(value, bool) or hint is bool:
        return isinstance(value, bool) and hint is bool
    return isinstance(value, (int, float) if hint is float else hint)
