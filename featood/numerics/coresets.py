"""Coresets: few rows such that every row is near one of them."""

from __future__ import annotations

__all__ = ["greedy_k_center"]

import torch
from jaxtyping import Float, Int
from torch import Tensor


def greedy_k_center(rows: Float[Tensor, "N D"], k: int) -> Int[Tensor, "k"]:
    """Choose k rows one after the other, each the farthest from those before; the first is the farthest from the mean.

    The largest distance of a row to the nearest chosen one is at most twice the smallest possible (Gonzalez, Clustering
    to minimize the maximum intercluster distance, Theoretical Computer Science 1985).

    Parameters
    ----------
    rows : Tensor
        Finite rows ``[N, D]``; distances are computed in float32, after subtraction of the mean.
    k : int
        Number of rows to choose, from 1 to N. Takes ``k N D`` multiplications.

    Returns
    -------
    Tensor
        Row numbers ``[k]`` in the order of their choice, all different.

    Examples
    --------
    >>> greedy_k_center(torch.tensor([[0.0], [1.0], [2.0], [9.0]]), 3).tolist()
    [3, 0, 2]
    """
    rows = (rows - rows.mean(0, dtype=torch.float64).to(rows.dtype)).float()
    squares = rows.square().sum(1)
    chosen = torch.empty(k, dtype=torch.long, device=rows.device)
    chosen[0] = squares.argmax()
    nearest = torch.full_like(squares, torch.inf)
    for step in range(1, k):
        last = chosen[step - 1]
        # |row|^2 + |last|^2 - 2 row . last
        nearest = torch.minimum(nearest, torch.addmv(squares + squares[last], rows, rows[last], alpha=-2))
        nearest[last] = -torch.inf
        chosen[step] = nearest.argmax()
    return chosen
