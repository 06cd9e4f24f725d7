"""Options and tensors of heads that earlier versions fitted, as they are today; the scores stay the same."""

from __future__ import annotations

__all__ = ["ADDED", "RENAMED", "earlier_options", "earlier_state"]

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

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
"""The option as it was, and a function from its value to the options that say the same now: several, or none where it
no longer matters. One entry a head, and ``"*"`` for all that have none of their own. An option is taken for an old one
only where the head has none of that name any more."""
ADDED: Mapping[str, Mapping[str, Any]] = {"natpn": {"evidence_limit": 1e12}}
"""For a head, options that artefacts may lack and whose defaults would change their scores, with values that do not."""


def earlier_options(cls: type[Head], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of an earlier version as they are today; those that are unknown stay as they are."""
    return {**ADDED.get(cls.card.name, {}), **_renamed(cls, options)}


def _renamed(cls: type[Head], options: Mapping[str, Any]) -> dict[str, Any]:
    """Give options their present names, also those of the members of a composition."""
    known = {field.name for field in dataclasses.fields(cls)}
    table = RENAMED.get(cls.card.name, RENAMED.get("*", {}))
    found: dict[str, Any] = {}
    for name, value in options.items():
        found |= table[name](value) if name in table and name not in known else {name: value}
    if isinstance(members := found.get("members"), tuple) and "members" in known:
        found["members"] = tuple(_member(text) if isinstance(text, str) else text for text in members)
    return found


def _member(text: str) -> str:
    from featood.heads.compositions._members import join_member, split_member
    from featood.heads.registry import head_class

    name, options = split_member(text)
    return join_member(name, _renamed(head_class(name), options))


def earlier_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give the tensors of an artefact the names they have now; the same, where they are of now.

    Heads that train a network kept ``mean`` and ``spread`` of the rows it was standardised by, behind a number
    where they are members of a composition. They are the space of today, or unused where the rows stayed as they
    were.
    """
    found = dict(state)
    for key in state:
        prefix = key.removesuffix("spread")
        if key == prefix or {prefix + "mean", prefix + "classes"} - set(state) or prefix + "inputs" in state:
            continue
        found[prefix + "space.center"], found[prefix + "space.scale"] = (
            found.pop(prefix + "mean"),
            found.pop(key),
        )
        found[prefix + "inputs"] = torch.tensor(len(state[key]))
    return found
