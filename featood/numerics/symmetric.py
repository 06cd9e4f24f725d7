"""Symmetric matrices of which only one triangle is computed."""

from __future__ import annotations

__all__ = ["mirrored", "outer_products"]

import torch
from jaxtyping import Float
from torch import Tensor


def outer_products(rows: Float[Tensor, "B D"]) -> Float[Tensor, "D D"]:
    """Return the upper triangle of ``rows.T @ rows``; the lower one is undefined.

    On the CPU, BLAS computes only that triangle, which takes half the time of the product; PyTorch has no such
    function.

    Parameters
    ----------
    rows : Tensor
        ``[B, D]`` in float64.
    """
    if rows.device.type != "cpu" or torch.compiler.is_compiling():
        return rows.T @ rows
    from scipy.linalg.blas import dsyrk

    # BLAS stores columns first: the transposed arrays are views, and its lower triangle is our upper one
    return torch.from_numpy(dsyrk(1.0, rows.contiguous().numpy().T, lower=1).T)


def mirrored(upper: Float[Tensor, "D D"]) -> Float[Tensor, "D D"]:
    """Return the symmetric matrix of an upper triangle."""
    return upper.triu() + upper.triu(1).T
