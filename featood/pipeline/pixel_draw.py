"""Which pixels of images are rows of a set."""

from __future__ import annotations

__all__ = ["PixelDraw"]

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from featood.data.masked.masked_set import MaskedSet


@dataclasses.dataclass(frozen=True)
class PixelDraw:
    """The positions on the grid of features that are rows, for each image; the same whenever they are drawn."""

    masked: MaskedSet
    grid: tuple[int, int]
    """Rows and columns of features."""
    pixels: int
    """Largest number of rows of an image; 0 for all in-distribution positions."""
    seed: int

    def __call__(self, number: int, shape: tuple[int, ...] | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return positions ``[n]`` and classes ``[n]`` of an image's rows.

        Parameters
        ----------
        number : int
            Number of the image.
        shape : (int, int), optional
            Height and width of the image; a mask of another shape is an error.
        """
        classes = _nearest(self.masked.mask(number, shape), self.grid).ravel()
        rows = np.flatnonzero(classes >= 0)
        if self.pixels and len(rows) > self.pixels:
            draw = np.random.default_rng([self.seed, number])
            rows = np.sort(draw.choice(rows, self.pixels, replace=False))
        return rows, classes[rows].astype(np.int64)

    def counts(self, progress: Callable[[int, int], None]) -> tuple[np.ndarray, int]:
        """Return the number of rows ``[N]`` of each image, and the highest class; -1 without rows."""
        counts, highest = np.zeros(len(self.masked), np.int64), -1
        for number in range(len(counts)):
            _, classes = self(number)
            counts[number] = len(classes)
            highest = max(highest, int(classes.max(initial=-1)))
            progress(number + 1, len(counts))
        return counts, highest

    def ids(self, number: int, rows: Sequence[int] | np.ndarray) -> list[str]:
        """Return the names of rows of an image, ``IMAGE@ROW,COLUMN``."""
        image, width = self.masked.images.ids[number], self.grid[1]
        return [f"{image}@{row // width},{row % width}" for row in rows]


def _nearest(mask: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Return the values of a mask at the centres of the positions of a grid."""
    rows, columns = (
        np.minimum((np.arange(count) + 0.5) * size / count, size - 1).astype(int)
        for count, size in zip(grid, mask.shape, strict=True)
    )
    return mask[np.ix_(rows, columns)]
