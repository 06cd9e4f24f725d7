"""Images with masks: a class for each pixel, or whether it is out-of-distribution, or ignored."""

from __future__ import annotations

__all__ = ["MaskedSet", "Meaning"]

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping

import numpy as np

from featood.data.contents import content_digests
from featood.data.images.image_set import ImageSet
from featood.data.images.reading import read_values
from featood.errors import DataError
from featood.metrics.dense import IGNORED, OUTLIER

UNKNOWN = -3
"""A value without a meaning, in the table of a Meaning."""


@dataclasses.dataclass(frozen=True)
class Meaning:
    """Meaning of the values of masks.

    Parameters
    ----------
    known : mapping of int to int
        Class number of each value of in-distribution pixels; 0 for all if masks have no classes.
    outliers, ignored : iterable of int
        Values of out-of-distribution pixels, and of pixels that count nowhere.
    by_class : bool
        Whether the numbers in `known` are classes.
    """

    known: Mapping[int, int]
    outliers: Iterable[int] = ()
    ignored: Iterable[int] = ()
    by_class: bool = False

    def table(self) -> np.ndarray:
        """Return the number of each value, int16 ``[256]``."""
        table = np.full(256, UNKNOWN, np.int16)
        table[list(self.ignored)] = IGNORED
        table[list(self.outliers)] = OUTLIER
        table[list(self.known)] = list(self.known.values())
        return table


@dataclasses.dataclass(frozen=True, eq=False)
class MaskedSet:
    """N images with masks.

    Attributes
    ----------
    images : ImageSet
        The images, as files.
    masks : tuple of str
        Mask of each image, relative to the root of the images; empty if all of its pixels are in-distribution.
    meaning : Meaning
        Meaning of the values of the masks.
    """

    images: ImageSet
    masks: tuple[str, ...]
    meaning: Meaning

    def __len__(self) -> int:
        return len(self.masks)

    def mask(self, i: int, shape: tuple[int, ...] | None = None) -> np.ndarray:
        """Read the mask of image ``i``.

        Parameters
        ----------
        i : int
            Row of the image.
        shape : (int, int), optional
            Height and width of the image. If they are not known, those of the mask are not checked, and a mask without
            a file has one pixel.

        Returns
        -------
        ndarray, int16 [H, W]
            Class number, or 0 if the masks have no classes; `OUTLIER`; or `IGNORED`
            (:mod:`featood.metrics.dense`).

        Raises
        ------
        DataError
            If the file cannot be read, has another shape, or a value without a meaning.
        """
        if not self.masks[i]:
            return np.zeros(shape or (1, 1), np.int16)
        assert self.images.root is not None
        path = self.images.root / self.masks[i]
        values = read_values(path)
        mask = self.meaning.table()[values]
        if shape is not None and mask.shape != shape:
            raise DataError(f"{path} has {mask.shape} pixels, but its image {self.images.ids[i]} has {shape}")
        if (strange := mask == UNKNOWN).any():
            raise DataError(
                f"{path} has the value {values[strange][0]}, which has no meaning in {self.images.name}"
            )
        return mask

    def digest(self) -> str:
        """SHA-256 of images, masks, and the meaning of their values."""
        sha = hashlib.sha256(b"featood masks 1\0" + self.images.digest().encode())
        sha.update("\0".join(self.masks).encode("utf-8", "surrogateescape"))
        sha.update(self.meaning.table().tobytes())
        assert self.images.root is not None
        for part in content_digests(self.images.root, [name for name in self.masks if name]):
            sha.update(part)
        return sha.hexdigest()
