"""Means over some rows of a batch."""

from __future__ import annotations

__all__ = ["mean_over"]

from jaxtyping import Bool, Float
from torch import Tensor


def mean_over(values: Float[Tensor, "B"], rows: Bool[Tensor, "B"]) -> Float[Tensor, ""]:
    """Mean of `values` ``[B]`` over the rows of the mask `rows` ``[B]``; 0 if there are none."""
    return values[rows].sum() / rows.sum().clamp(min=1)
