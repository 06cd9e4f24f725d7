"""Shuffled mini-batches that need no state: the rows of a batch follow from the seed and its number."""

from __future__ import annotations

__all__ = ["Batches"]

import numpy as np
import torch
from torch import Tensor

from featood.errors import DataError


class Batches:
    """Row numbers of the mini-batches of all epochs; each epoch is shuffled anew, and its remainder left out.

    Parameters
    ----------
    rows : int
        Rows there are.
    size : int
        Rows in a batch; all of them where there are fewer.
    seed : int
        Seed of the permutations.

    Raises
    ------
    DataError
        When there are no rows.

    Examples
    --------
    >>> batches = Batches(rows=10, size=4, seed=0)
    >>> len(batches), batches(0).shape
    (2, torch.Size([4]))
    """

    def __init__(self, rows: int, size: int, seed: int = 0) -> None:
        if rows < 1:
            raise DataError("there are no rows to train on")
        self.rows = rows
        self.size = min(size, rows)
        self.seed = seed
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.long)

    def __len__(self) -> int:
        """Batches in an epoch."""
        return self.rows // self.size

    def __call__(self, number: int) -> Tensor:
        """Return the rows ``[size]`` of a batch, numbered through all epochs."""
        epoch, position = divmod(number, len(self))
        if epoch != self._epoch:
            order = np.random.default_rng([self.seed, epoch]).permutation(self.rows)
            self._epoch, self._order = epoch, torch.from_numpy(order)
        return self._order[position * self.size : (position + 1) * self.size]
