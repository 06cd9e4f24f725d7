"""Tensors as earlier versions named them, and defaults that they did not have: the same scores for heads of then."""

from __future__ import annotations

__all__ = ["ADDED", "earlier_state"]

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

ADDED: Mapping[str, Mapping[str, Any]] = {"natpn": {"evidence_limit": 1e12}}
"""For a head, options that artefacts may lack and whose defaults would change their scores, with values that do not."""


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
