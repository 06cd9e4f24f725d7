"""Means over some of a batch's rows."""

from __future__ import annotations

__all__ = ["mean_over"]

from jaxtyping import Bool, Float
from torch import Tensor


def mean_over(values: Float[Tensor, "B"], rows: Bool[Tensor, "B"]) -> Float[Tensor, ""]:
    """Mean of `values` ``[B]`` over the rows that the mask `rows` ``[B]`` names; 0 where it names none."""
    return values[rows].sum() / rows.sum().clamp(min=1)
