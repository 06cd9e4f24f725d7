"""PixMix: images mixed with changed copies of themselves and with images of another kind, such as fractals."""

from __future__ import annotations

__all__ = ["PixMix", "added", "multiplied", "shares"]

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageOps

from featood.data import ImageSet
from featood.extractors.transform import Transform, resized

BETA = 3.0
"""Parameter of the Beta distributions of the shares."""
ROUNDS = 4
"""Largest number of images mixed in."""
SEVERITY = 3.0
"""Largest level of a change, out of 10."""
MARGIN = 9 / 8
"""Side of a mixing image over that of the crop."""


class PixMix:
    """Mixes each image up to four times with a changed copy of itself or with an image of the mixing set.

    Severity, number of rounds and shares are those of the authors' code for CIFAR, without its operations that overlap
    with ImageNet-C. The result is rounded to 8 bits, as all augmentations here are.

    Parameters
    ----------
    images : ImageSet
        The mixing set; labels are not used. An image is drawn for each image and view, resized so that its short side
        is 9/8 of the input's longer side, and cropped at random.
    transform : Transform
        Of the network, for the size and the number of channels.

    References
    ----------
    Hendrycks et al., PixMix: Dreamlike Pictures Comprehensively Improve Safety Measures, CVPR 2022.
    """

    def __init__(self, images: ImageSet, transform: Transform) -> None:
        self._images, self._mode = images, "L" if transform.channels == 1 else "RGB"

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Mix an image, uint8 ``[H, W, C]``."""
        original = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
        other = self._other(original.size, rng)
        mixed = _scaled(_changed(original, rng) if rng.random() < 0.5 else original)
        for _ in range(rng.integers(ROUNDS + 1)):
            further = _scaled(_changed(original, rng) if rng.random() < 0.5 else other)
            mix = added if rng.random() < 0.5 else multiplied
            mixed = mix(mixed, further, *shares(rng)).clip(0, 1)
        return (255 * mixed).round().astype(np.uint8).reshape(image.shape)

    def _other(self, size: tuple[int, int], rng: np.random.Generator) -> Image.Image:
        """Draw an image of the mixing set of a width and height."""
        picture = Image.fromarray(self._images.read(int(rng.integers(len(self._images))))).convert(self._mode)
        height, width = resized((picture.height, picture.width), round(MARGIN * max(size)), "short")
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
        left, top = int(rng.integers(width - size[0] + 1)), int(rng.integers(height - size[1] + 1))
        return picture.crop((left, top, left + size[0], top + size[1]))


def shares(rng: np.random.Generator, beta: float = BETA) -> tuple[float, float]:
    """Draw the shares of both images: a convex-like combination or, as often, one with a negative second share."""
    if rng.random() < 0.5:
        return rng.beta(beta, 1), rng.beta(1, beta)
    return 1 + rng.beta(1, beta), -rng.beta(1, beta)


def added(one: np.ndarray, other: np.ndarray, a: float, b: float) -> np.ndarray:
    """Return ``a x + b y`` of images in [0, 1], with x and y in [-1, 1]."""
    return (a * (2 * one - 1) + b * (2 * other - 1) + 1) / 2


def multiplied(one: np.ndarray, other: np.ndarray, a: float, b: float) -> np.ndarray:
    """Return ``x^a y^b`` of images in [0, 1], with x and y in [0, 2]."""
    return (2 * one) ** a * (2 * other).clip(1e-37) ** b / 2


def _scaled(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture, np.float64) / 255


def _changed(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Apply one of the operations of AugMix at a random level."""
    operation = OPERATIONS[rng.integers(len(OPERATIONS))]
    return operation(picture, rng.uniform(0.1, SEVERITY) / 10, 1 if rng.random() < 0.5 else -1)


def _affine(
    make: Callable[[float, int, int], tuple[float, ...]],
) -> Callable[[Image.Image, float, int], Image.Image]:
    def apply(picture: Image.Image, level: float, sign: int) -> Image.Image:
        matrix = make(sign * level, *picture.size)
        return picture.transform(picture.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)

    return apply


OPERATIONS: tuple[Callable[[Image.Image, float, int], Image.Image], ...] = (
    lambda picture, level, sign: ImageOps.autocontrast(picture),
    lambda picture, level, sign: ImageOps.equalize(picture),
    lambda picture, level, sign: ImageOps.posterize(picture, 4 - int(4 * level)),
    lambda picture, level, sign: picture.rotate(sign * int(30 * level), Image.Resampling.BILINEAR),
    lambda picture, level, sign: ImageOps.solarize(picture, 256 - int(256 * level)),
    _affine(lambda level, width, height: (1, 0.3 * level, 0, 0, 1, 0)),
    _affine(lambda level, width, height: (1, 0, 0, 0.3 * level, 1, 0)),
    _affine(lambda level, width, height: (1, 0, int(level * width / 3), 0, 1, 0)),
    _affine(lambda level, width, height: (1, 0, 0, 0, 1, int(level * height / 3))),
)
"""Operations on a picture at a level from 0 to 1, in the direction of a sign."""
