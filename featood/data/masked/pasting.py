"""Unknown objects pasted into images with masks, to train and validate detectors of out-of-distribution pixels.

Networks for segmentation learn from such pixels, for example, by a high entropy (Chan et al., Entropy Maximization and
Meta Classification for Out-of-Distribution Detection in Semantic Segmentation, ICCV 2021).
"""

from __future__ import annotations

__all__ = ["PasteOptions", "PastedSet", "paste"]

import dataclasses
from collections.abc import Iterable

import numpy as np
from PIL import Image

from featood.data.masked.coco import CocoObjects, CutOut
from featood.data.masked.masked_set import MaskedSet
from featood.errors import UsageError
from featood.metrics.dense import OUTLIER


@dataclasses.dataclass(frozen=True)
class PasteOptions:
    """How objects are pasted.

    Parameters
    ----------
    share : float
        Probability with which an image gets objects.
    most : int
        Largest number of objects of such an image; it is drawn from 1 on.
    size : (float, float)
        Bounds of the longer side of an object, relative to the shorter side of the image.
    rows : (float, float)
        Bounds of the vertical position of an object's centre, relative to the height; the object is inside the image.
    label : int
        Value of the pixels of objects in the mask.
    seed : int
        Seed of all draws; those of an image depend only on it and the number of the image.
    """

    share: float = 1.0
    most: int = 1
    size: tuple[float, float] = (0.1, 0.5)
    rows: tuple[float, float] = (0.0, 1.0)
    label: int = OUTLIER
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1 or self.most < 1:
            raise UsageError("the share of images is between 0 and 1, and the number of objects at least 1")
        if not 0 < self.size[0] <= self.size[1] <= 1:
            raise UsageError(f"the bounds of the size are two ascending numbers in (0, 1], not {self.size}")
        if not 0 <= self.rows[0] <= self.rows[1] <= 1:
            raise UsageError(f"the bounds of the rows are two ascending numbers from 0 to 1, not {self.rows}")


class PastedSet:
    """Images with pasted objects, and their masks; a map-style data set of PyTorch.

    Parameters
    ----------
    masked : MaskedSet
        The in-distribution images.
    objects : CocoObjects
        The objects, from which those of an image are drawn.
    options : PasteOptions
        How they are pasted. Another seed gives other objects, for example, in each epoch.

    Examples
    --------
    >>> from featood.data.masked.coco import open_coco
    >>> from featood.data.masked.layouts import open_masked
    >>> scenes = open_masked("./scenes", "train")  # doctest: +SKIP
    >>> objects = open_coco("coco/annotations/instances_val2017.json", exclude=["car"])  # doctest: +SKIP
    >>> image, mask = PastedSet(scenes, objects, PasteOptions(seed=1))[0]  # doctest: +SKIP
    """

    def __init__(
        self, masked: MaskedSet, objects: CocoObjects, options: PasteOptions = PasteOptions()
    ) -> None:
        self.masked, self.objects, self.options = masked, objects, options

    def __len__(self) -> int:
        return len(self.masked)

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return an image, uint8 ``[H, W, 3]``, and its mask, int16 ``[H, W]``."""
        number = range(len(self))[number]
        image = self.masked.images.read(number)
        mask = self.masked.mask(number, image.shape[:2])
        rng = np.random.default_rng([self.options.seed, number])
        image = image if image.ndim == 3 else np.repeat(image[..., None], 3, 2)
        return paste(image, mask, (self.objects[one] for one in self.drawn(number, rng)), self.options, rng)

    def drawn(self, number: int, rng: np.random.Generator | None = None) -> list[int]:
        """Return the numbers of the objects that are pasted into an image."""
        rng = rng or np.random.default_rng([self.options.seed, number])
        if rng.random() >= self.options.share:
            return []
        count = rng.integers(1, self.options.most + 1)
        return [int(one) for one in rng.integers(0, len(self.objects), count)]


def paste(
    image: np.ndarray,
    mask: np.ndarray,
    objects: Iterable[CutOut],
    options: PasteOptions,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Paste objects into an image at random places, later ones above earlier ones.

    Parameters
    ----------
    image : array of uint8, shape [H, W, 3]
        The image.
    mask : array of int, shape [H, W]
        Its mask.
    objects : iterable of CutOut
        The objects; they are resized, but keep their proportions.
    options : PasteOptions
        Sizes, positions and label.
    rng : numpy.random.Generator
        Source of the draws.

    Returns
    -------
    (ndarray, ndarray)
        New arrays.
    """
    image, mask = image.copy(), mask.copy()
    height, width = mask.shape
    for one in objects:
        longer = rng.uniform(*options.size) * min(height, width)
        scale = longer / max(one.mask.shape)
        h, w = (max(1, round(side * scale)) for side in one.mask.shape)
        centre = rng.uniform(*options.rows) * height
        top = round(min(max(centre - h / 2, 0), height - h))
        left = int(rng.integers(0, width - w + 1))
        place = slice(top, top + h), slice(left, left + w)
        inside = np.array(Image.fromarray(one.mask).resize((w, h), Image.Resampling.NEAREST))
        pixels = np.array(Image.fromarray(one.pixels).resize((w, h), Image.Resampling.BILINEAR))
        image[place][inside] = pixels[inside]
        mask[place][inside] = options.label
    return image, mask
