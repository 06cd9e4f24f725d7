"""Options that had another name once, or were not there: how artefacts of then are read now."""

from __future__ import annotations

__all__ = ["ADDED", "OPTIONS", "renamed"]

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

Values = Mapping[str, Any]


def _lengths(on: bool) -> Values:
    return {"space": "l2" if on else "none"}


OPTIONS: Mapping[str, Mapping[str, Callable[[Any], Values]]] = {
    "*": {"standardize": lambda on: {"space": "standardize" if on else "none"}, "normalize": _lengths},
    # its prior is the classifier, which has never seen other rows than they are
    "heat-el": {"normalize": lambda on: _lengths(on) if on else {}},
}
"""For a head, or all, from an old option's name and value to the new options'."""
ADDED: Mapping[str, Values] = {"natpn": {"evidence_limit": 1e12}}
"""For a head, options of today whose defaults would change old scores, with the values that do not."""


def renamed(
    head: str, options: Mapping[str, Any], state: Mapping[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Give the options and tensors of an artefact the names they have now.

    Parameters
    ----------
    head : str
        Name of the head.
    options : mapping
        As they were written.
    state : mapping
        Tensors as they were written.

    Returns
    -------
    tuple
        Options and tensors as they would be written now; the same, where they are of now.
    """
    table = {**OPTIONS["*"], **OPTIONS.get(head, {})}
    named: dict[str, Any] = {}
    for name, value in options.items():
        named |= table[name](value) if name in table else {name: value}
    named = {**ADDED.get(head, {}), **named}
    tensors = dict(state)
    if "standardize" in options and "mean" in tensors:
        center, scale = tensors.pop("mean"), tensors.pop("spread")
        tensors["inputs"] = torch.tensor(len(center))
        if options["standardize"]:
            tensors |= {"space.center": center, "space.scale": scale}
    return named, tensors
