"""Products with symmetric and triangular matrices, of which only one triangle is computed."""

from __future__ import annotations

__all__ = ["inverse_triangular", "mirrored", "outer_products", "times_triangular"]

import torch
from jaxtyping import Float
from torch import Tensor

TRIANGULAR = 256
"""Smallest size of a triangular matrix whose structure saves time."""


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


def times_triangular(rows: Float[Tensor, "B D"], matrix: Float[Tensor, "D K"]) -> Float[Tensor, "B K"]:
    """Return ``rows @ matrix``, on the CPU in half the time if the matrix is upper triangular.

    PyTorch has no such function. Its own is used where it has to differentiate, and for small matrices.
    """
    if (
        rows.device.type != "cpu"
        or torch.compiler.is_compiling()
        or (rows.requires_grad and torch.is_grad_enabled())
        or len(matrix) < TRIANGULAR
        or matrix.shape[0] != matrix.shape[1]
    ):
        return rows @ matrix
    from scipy.linalg import bandwidth
    from scipy.linalg.blas import dtrmm, strmm

    if bandwidth(matrix.numpy())[0]:
        return rows @ matrix
    product = dtrmm if rows.dtype == torch.float64 else strmm
    return torch.from_numpy(product(1.0, matrix.numpy().T, rows.contiguous().numpy().T, lower=1).T)


def inverse_triangular(lower: Float[Tensor, "D D"]) -> Float[Tensor, "D D"]:
    """Invert a lower triangular float64 matrix, on the CPU in a third of the time of PyTorch's solver."""
    if lower.device.type != "cpu" or torch.compiler.is_compiling():
        identity = torch.eye(len(lower), dtype=lower.dtype, device=lower.device)
        return torch.linalg.solve_triangular(lower, identity, upper=False)
    from scipy.linalg.lapack import dtrtri

    return torch.from_numpy(dtrtri(lower.contiguous().numpy().T, lower=0)[0].T)


def mirrored(upper: Float[Tensor, "D D"]) -> Float[Tensor, "D D"]:
    """Return the symmetric matrix of an upper triangle."""
    return upper.triu() + upper.triu(1).T
