"""Vectors of unit length, at any scale."""

from __future__ import annotations

__all__ = ["unit"]

from torch import Tensor


def unit(rows: Tensor) -> Tensor:
    """Scale rows ``[B, D]`` to unit Euclidean length; a row of zeros stays zero.

    The largest entry is divided out first, so that no square over- or underflows.
    """
    largest = rows.abs().amax(1, keepdim=True)
    rows = rows / largest.masked_fill(largest == 0, 1)
    return rows / rows.norm(dim=1, keepdim=True).clamp(min=1)
