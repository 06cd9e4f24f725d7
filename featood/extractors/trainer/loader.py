"""Batches of augmented images, or of texts: every row of every epoch is the same, whichever process makes it."""

from __future__ import annotations

__all__ = ["ImageLoader"]

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from featood.data import InputSet
from featood.extractors.inputs import InputTransform
from featood.extractors.trainer.augmentation import Augmentation
from featood.training.batches import Batches


class ImageLoader:
    """Gives the images of batches by number; fast where the numbers ascend.

    The random changes of an image depend only on the seed, the epoch, its row and the view.

    Parameters
    ----------
    images : InputSet
        The images, or texts.
    transform : InputTransform
        From a decoded image to the network's input.
    batches : Batches
        Rows by the number of the batch.
    count : int
        Number of batches in all.
    augmentations : sequence of callable
        Applied in turn between resizing and normalisation.
    seed : int
        Of the augmentation.
    workers : int
        Processes that read images; 0 reads in this one.
    part : (int, int)
        Number of this process and of all; each gets its share of the rows of each batch.
    views : int
        Differently augmented copies of each image: first all images of a batch, then all second copies, ...
    """

    def __init__(
        self,
        images: InputSet,
        transform: InputTransform,
        batches: Batches,
        count: int,
        *,
        augmentations: Sequence[Augmentation] = (),
        seed: int = 0,
        workers: int = 0,
        part: tuple[int, int] = (0, 1),
        views: int = 1,
    ) -> None:
        self._rows = _Rows(images, transform, augmentations, seed)
        self._keys = _Keys(batches, count, part, views)
        self._transform, self._workers, self.views = transform, workers, views
        self._next = -1
        self._iterator: Iterator[np.ndarray] = iter(())

    def rows(self, number: int) -> Tensor:
        """Return this process's row numbers ``[B]`` of a batch."""
        return self._keys.rows(number)

    def __call__(self, number: int) -> Tensor:
        """Return the inputs of a batch: normalised images ``[B, C, H, W]``, or token numbers ``[B, L]``."""
        if number != self._next:
            self._iterator = self._open(number)
        self._next = number + 1
        return self._transform.normalise(next(self._iterator))

    def _open(self, first: int) -> Iterator[np.ndarray]:
        return iter(
            DataLoader(
                self._rows,
                batch_sampler=dataclasses.replace(self._keys, first=first),
                collate_fn=self._transform.stack,
                num_workers=self._workers,
                generator=torch.Generator(),
            )
        )


@dataclasses.dataclass(frozen=True)
class _Keys:
    """Rows, epochs and views of all batches from one on.

    It does not refer to the loader: workers whose iterator is in a cycle of references are ended by the garbage
    collector, which takes seconds for each.
    """

    batches: Batches
    count: int
    part: tuple[int, int]
    views: int
    first: int = 0

    def rows(self, number: int) -> Tensor:
        """Return this process's row numbers of a batch."""
        rank, world = self.part
        return self.batches(number)[rank::world]

    def __iter__(self) -> Iterator[list[tuple[int, int, int]]]:
        for number in range(self.first, self.count):
            epoch, rows = number // len(self.batches), self.rows(number).tolist()
            yield [(row, epoch, view) for view in range(self.views) for row in rows]


class _Rows(Dataset[np.ndarray]):
    """Augmented pixels, uint8 ``[H, W, C]``, by row, epoch and view."""

    def __init__(
        self, images: InputSet, transform: InputTransform, augmentations: Sequence[Augmentation], seed: int
    ) -> None:
        self._images, self._transform = images, transform
        self._augmentations, self._seed = augmentations, seed

    def __getitem__(self, key: tuple[int, int, int]) -> np.ndarray:
        row, epoch, view = key
        pixels = self._transform.read(self._images, row)
        rng = np.random.default_rng([self._seed, epoch, row, view])
        for change in self._augmentations:
            pixels = change(pixels, rng)
        return pixels
