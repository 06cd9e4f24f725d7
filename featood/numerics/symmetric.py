"""Sums of outer products, of which only one triangle is computed."""

from __future__ import annotations

__all__ = ["add_outer_products"]

import torch
from jaxtyping import Float
from torch import Tensor


def add_outer_products(upper: Float[Tensor, "D D"], rows: Float[Tensor, "B D"]) -> None:
    """Add ``rows.T @ rows`` to the upper triangle of a matrix, in place; the lower one is undefined.

    On the CPU, BLAS computes only that triangle, which takes half the time of the product; PyTorch has no such
    function.

    Parameters
    ----------
    upper : Tensor
        ``[D, D]`` in float64, contiguous.
    rows : Tensor
        ``[B, D]`` in float64.
    """
    if upper.device.type != "cpu" or torch.compiler.is_compiling():
        upper.addmm_(rows.T, rows)
        return
    from scipy.linalg.blas import dsyrk

    assert upper.is_contiguous() and upper.dtype == torch.float64  # otherwise a copy would be changed
    # BLAS stores columns first: the transposed arrays are views, and its lower triangle is our upper one
    dsyrk(1.0, rows.contiguous().numpy().T, beta=1.0, c=upper.numpy().T, lower=1, overwrite_c=1)
