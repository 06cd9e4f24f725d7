"""Options that had other names or values, so that heads fitted by earlier versions load with the same scores.

One entry a head, and ``"*"`` for all that have none of their own: the option as it was, and a function from its value
to the options that say the same now.
"""

from __future__ import annotations

__all__ = ["RENAMED", "renamed"]

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from featood.heads.base import Head

RENAMED: dict[str, dict[str, Callable[[Any], Mapping[str, Any]]]] = {
    "*": {
        "standardize": lambda on: {"space": "standardize" if on else "none"},
        "normalize": lambda on: {"space": "l2" if on else "none"},
    },
    # its prior is the classifier; a head that looked at other rows than those it knows is not to be had any more
    "heat-el": {"normalize": lambda on: {"space": "l2"} if on else {}},
}


def renamed(cls: type[Head], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of an earlier version under their present names; those that are unknown stay as they are."""
    known = {field.name for field in dataclasses.fields(cls)}
    table = RENAMED.get(cls.card.name, RENAMED["*"])
    found: dict[str, Any] = {}
    for name, value in options.items():
        found |= table[name](value) if name in table and name not in known else {name: value}
    return found
