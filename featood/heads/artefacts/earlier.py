"""Conversion of options and tensors of heads fitted by earlier versions; the scores stay the same."""

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
    # its prior is the classifier; the variant on rows other than the classifier's input no longer exists
    "heat-el": {"normalize": lambda on: {"space": "l2"} if on else {}},
}
"""For each head, former options with a function from their value to the equivalent current options, which may be
several or none. ``"*"`` applies to heads without an entry. An option counts as a former one only if the head no
longer has an option of that name."""
FLOWS = ("approximate-flow", "glow-vector", "iresnet", "maf", "planar-flow", "realnvp", "spline-flow")
ENERGIES = (
    "cd", "conditional-nce", "entropy-mcmc", "epn-m", "epn-v", "flow-nce", "jem", "nce", "ssm", "ssm-supervised",
    "vera", "vera-posterior", "vera-supervised",
)  # fmt: skip
ADDED: Mapping[str, Mapping[str, Any]] = {
    "natpn": {"evidence_limit": 1e12, "by_class": False},
    **{name: {"by_class": False} for name in FLOWS},
    **{name: {"base": "none"} for name in ENERGIES},
    "radial-flow": {"separate": True},
    **{name: {"loss": "cd"} for name in ("heat-el", "heat-gmm", "heat-gmm-std")},
}
"""For each head, options that artefacts may lack, with the values that they were fitted with."""


def earlier_options(cls: type[Head], options: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the options of an earlier version to current ones; unknown options stay unchanged."""
    return {**ADDED.get(cls.card.name, {}), **_renamed(cls, options)}


def _renamed(cls: type[Head], options: Mapping[str, Any]) -> dict[str, Any]:
    """Rename options to their current names, also those of the members of a composition."""
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
    """Rename the tensors of an artefact to their current names, if they are not current already.

    Heads that train a network stored the ``mean`` and ``spread`` used for standardisation, prefixed with a number in
    members of a composition. They are now tensors of the space, or unused if the rows were not standardised.
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
