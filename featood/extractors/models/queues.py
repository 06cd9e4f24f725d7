"""The latest features of each class."""

from __future__ import annotations

__all__ = ["ClassQueues"]

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ClassQueues(nn.Module):
    """The latest `length` features of each class.

    Parameters
    ----------
    classes, length, width : int
        Shape of the features ``[C, N, D]``.
    """

    rows: Tensor
    seen: Tensor

    def __init__(self, classes: int, length: int, width: int) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros(classes, length, width))
        self.register_buffer("seen", torch.zeros(classes, dtype=torch.long))

    @property
    def full(self) -> bool:
        """Whether all queues are full."""
        return bool((self.seen >= self.rows.shape[1]).all())

    @torch.no_grad()
    def push(self, features: Tensor, labels: Tensor) -> None:
        """Add features ``[B, D]`` with labels ``[B]``, in order, in place of the oldest."""
        classes, length, _ = self.rows.shape
        of_class = F.one_hot(labels, classes)
        count = of_class.sum(0)
        order = of_class.cumsum(0).gather(1, labels[:, None]).squeeze(1) - 1
        # of more rows than a queue takes, the last are kept
        kept = order >= count[labels] - length
        place = (self.seen[labels] + order)[kept] % length
        self.rows[labels[kept], place] = features.detach()[kept].to(self.rows.dtype)
        self.seen += count
