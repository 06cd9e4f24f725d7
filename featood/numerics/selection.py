"""The largest entries of rows."""

from __future__ import annotations

__all__ = ["largest"]

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


def largest(rows: Float[Tensor, "B D"], count: int) -> Float[Tensor, "B k"]:
    """Return the `count` largest entries of each row ``[B, count]``, in no order.

    On the CPU, NumPy partitions rows with vector instructions, which takes a third to a tenth of the time of PyTorch's
    `topk`.

    Parameters
    ----------
    rows : Tensor
        ``[B, D]`` without NaN.
    count : int
        At most D.
    """
    if rows.device.type != "cpu" or torch.compiler.is_compiling():
        return rows.topk(count, dim=1, sorted=False).values
    start = rows.shape[1] - count
    return torch.from_numpy(np.partition(rows.numpy(), start, axis=1)[:, start:]) if start else rows
