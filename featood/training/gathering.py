"""The rows of all processes that train one network, for losses that are not means over the rows of a batch."""

from __future__ import annotations

__all__ = ["gathered", "of_first"]

import torch
import torch.distributed as dist
from torch import Tensor


def _alone() -> bool:
    return not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1


def gathered(rows: Tensor, views: int = 1) -> Tensor:
    """Return the rows of the whole batch, in its order, in every process; one process gets its own back.

    The gradient of a row sums over all processes. If each of them computes the same loss of the whole batch, the mean
    of their gradients, which is what they train with, is the gradient of that loss.

    Parameters
    ----------
    rows : Tensor
        ``[views B, ...]``, the rows of this process: every W-th row of the batch, for W processes, view by view.
    views : int
        Copies of each row in the batch.

    Returns
    -------
    Tensor
        ``[views B W, ...]``.
    """
    if _alone():
        return rows
    from torch.distributed.nn.functional import all_gather

    parts = torch.stack(list(all_gather(rows.contiguous())))
    return parts.unflatten(1, (views, -1)).movedim(0, 2).flatten(0, 2)


def of_first(values: Tensor) -> Tensor:
    """Return the values of the first process in all processes, without a gradient."""
    values = values.detach()
    if not _alone():
        values = values.contiguous()
        dist.broadcast(values, 0)
    return values
