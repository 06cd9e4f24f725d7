"""The numbers of a head's classes, where they are not those of its columns: kept at the fit, given back to logits."""

from __future__ import annotations

__all__ = ["NUMBERS", "in_columns", "number_classes"]

import torch
from torch import Tensor

from featood.heads.base.rows import SelectedRows

NUMBERS = "class_numbers"
"""Tensor ``[K]`` in the state of a head that classifies: the number of each of its classes."""
IMPOSSIBLE = float(torch.finfo(torch.float32).min)
"""Logit of a class without rows."""


def number_classes(rows: SelectedRows) -> tuple[dict[str, Tensor], int | None]:
    """Return what the state adds, and the number of the classifier's classes.

    Nothing is added where the classes are numbered from 0 and each has rows.
    """
    every = torch.arange(len(rows.classes))
    plain = rows.outputs in (None, len(every)) and torch.equal(rows.classes, every)
    if plain or not rows.ranked:
        return {}, None
    return {NUMBERS: rows.classes.to(rows.device)}, rows.outputs


def in_columns(logits: Tensor, numbers: Tensor, count: int) -> Tensor:
    """Put logits ``[B, K]`` of the classes of these numbers into the columns of a classifier ``[B, count]``."""
    columns = logits.new_full((len(logits), count), IMPOSSIBLE)
    columns[:, numbers.to(logits.device)] = logits
    return columns
