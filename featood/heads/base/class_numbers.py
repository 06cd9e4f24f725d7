"""The numbers of a head's classes, where they are not those of its columns: noted at the fit, given back to logits."""

from __future__ import annotations

__all__ = ["class_numbers", "in_columns", "noted_numbers"]

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from featood.heads.base.rows import SelectedRows

NUMBERS = "class_numbers"
"""Tensor ``[K]`` in the state of a head that classifies: the number of each of its classes."""
OUTPUTS = "num_classes"
"""Entry of its ``meta``: the classes of the classifier that came with the rows of the fit."""
IMPOSSIBLE = float(torch.finfo(torch.float32).min)
"""Logit of a class without rows."""


def noted_numbers(rows: SelectedRows) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return what state and ``meta`` add; nothing where the classes are numbered from 0 and each has rows."""
    every = torch.arange(len(rows.classes))
    plain = rows.outputs in (None, len(every)) and torch.equal(rows.classes, every)
    if plain or not rows.ranked:
        return {}, {}
    outputs = {} if rows.outputs is None else {OUTPUTS: rows.outputs}
    return {NUMBERS: rows.classes.to(rows.device)}, outputs


def class_numbers(state: Mapping[str, Tensor], meta: Mapping[str, Any]) -> Tensor | None:
    """Return the class numbers ``[C]`` of columns as `in_columns` gives them; None where they count from 0."""
    return None if OUTPUTS in meta else state.get(NUMBERS)


def in_columns(logits: Tensor, state: Mapping[str, Tensor], meta: Mapping[str, Any]) -> Tensor:
    """Put logits ``[B, K]`` of the classes that had rows into the columns of the classifier ``[B, C]``, if any."""
    if OUTPUTS not in meta:
        return logits
    columns = logits.new_full((len(logits), meta[OUTPUTS]), IMPOSSIBLE)
    columns[:, state[NUMBERS].to(logits.device)] = logits
    return columns
