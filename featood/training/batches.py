"""Shuffled mini-batches without state: the rows of a batch depend only on the seed and the number of the batch."""

from __future__ import annotations

__all__ = ["BalancedBatches", "Batches"]

import numpy as np
import torch
from torch import Tensor

from featood.errors import DataError


class Batches:
    """Row numbers of the mini-batches of all epochs; each epoch is reshuffled, and its incomplete batch is left out.

    Parameters
    ----------
    rows : int
        Number of rows.
    size : int
        Rows per batch; all rows if there are fewer.
    seed : int
        Seed of the permutations.

    Raises
    ------
    DataError
        If there are no rows.

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
        """Return the number of batches per epoch."""
        return self.rows // self.size

    def __call__(self, number: int) -> Tensor:
        """Return the rows ``[size]`` of a batch; batches are numbered through all epochs."""
        epoch, position = divmod(number, len(self))
        if epoch != self._epoch:
            order = np.random.default_rng([self.seed, epoch]).permutation(self.rows)
            self._epoch, self._order = epoch, torch.from_numpy(order)
        return self._order[position * self.size : (position + 1) * self.size]


class BalancedBatches(Batches):
    """Row numbers of mini-batches with equal numbers of rows of randomly chosen classes.

    The rows of each class are shuffled in each epoch and used in turn; after the last, the first follows. Rows of a
    class with fewer than `samples` rows are repeated within a batch.

    Parameters
    ----------
    labels : Tensor
        ``[N]`` classes of the rows, not negative.
    classes : int
        Classes per batch; all classes if there are fewer.
    samples : int
        Rows per class.
    seed : int
        Seed of all draws.

    Raises
    ------
    DataError
        If there are no rows.
    """

    def __init__(self, labels: Tensor, classes: int, samples: int, seed: int = 0) -> None:
        values = labels.cpu().numpy()
        _, self._classes, self._counts = np.unique(values, return_inverse=True, return_counts=True)
        self.classes = min(classes, len(self._counts))
        super().__init__(len(values), max(self.classes * samples, 1), seed)
        self.samples = samples

    def __call__(self, number: int) -> Tensor:
        """Return the rows ``[classes * samples]`` of a batch, class by class."""
        epoch, position = divmod(number, len(self))
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self._plan(np.random.default_rng([self.seed, epoch]))
        return self._order[position]

    def _plan(self, generator: np.random.Generator) -> Tensor:
        """Draw all batches of an epoch ``[batches, classes * samples]``."""
        draws = generator.random((len(self), len(self._counts)))
        chosen = np.zeros(draws.shape, dtype=np.int64)
        np.put_along_axis(chosen, draws.argsort(1)[:, : self.classes], 1, axis=1)
        batch, label = chosen.nonzero()
        earlier = (chosen.cumsum(0) - chosen)[
            batch, label
        ]  # number of earlier batches of the epoch with the class
        shuffled = generator.permutation(self.rows)
        by_class = shuffled[self._classes[shuffled].argsort(kind="stable")]
        first = self._counts.cumsum() - self._counts
        steps = (earlier * self.samples)[:, None] + np.arange(self.samples)
        rows = by_class[first[label][:, None] + steps % self._counts[label][:, None]]
        return torch.from_numpy(rows.reshape(len(self), -1))
