"""Sets without files: scikit-learn's digits, patches of its photographs, and noise."""

from __future__ import annotations

__all__ = ["NOISES", "digits", "noise", "photo_patches"]

import zlib

import numpy as np

from featood.data.images.image_set import ImageSet, packed_set
from featood.errors import UsageError

NOISES = ("gaussian", "uniform", "rademacher", "blobs", "constant")
MAX_BYTES = 1 << 31


def digits(split: str) -> ImageSet:
    """Return scikit-learn's 1,797 handwritten digits, 8 x 8, grey values 0 to 16 scaled to 0 to 255.

    A random 30 % of each class (seed 0) is ``test``, the rest ``train``.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    labels = bunch.target.astype(np.int64)
    shuffled = np.random.default_rng(0).permutation(len(labels))
    order = shuffled[np.argsort(labels[shuffled], kind="stable")]
    counts = np.bincount(labels)
    place = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    test = np.zeros(len(labels), bool)
    test[order] = place < 0.3 * counts[labels[order]]
    pixels = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    return packed_set(pixels, labels).subset(test if split == "test" else ~test)


def photo_patches(split: str, *, n: int = 2000, size: int = 32, seed: int = 0) -> ImageSet:
    """Return random square patches of scikit-learn's two sample photographs (427 x 640, RGB).

    Raises
    ------
    UsageError
        If the patches are larger than the photographs, or exceed the memory limit.
    """
    from sklearn.datasets import load_sample_images

    photos = np.stack(load_sample_images().images)
    _, height, width, channels = photos.shape
    if size > min(height, width):
        raise UsageError(f"photo-patches: size must be at most {min(height, width)}, not {size}")
    _check_size(n, size, channels)
    rng = np.random.default_rng(seed)
    photo = rng.integers(len(photos), size=n)
    top, left = rng.integers(height - size + 1, size=n), rng.integers(width - size + 1, size=n)
    windows = np.lib.stride_tricks.sliding_window_view(photos, (size, size), axis=(1, 2))
    return packed_set(windows[photo, top, left].transpose(0, 2, 3, 1))


def noise(
    split: str, *, kind: str = "gaussian", n: int = 2000, size: int = 32, channels: int = 3, seed: int = 0
) -> ImageSet:
    """Return random images; ``train`` and ``test`` are different draws.

    Parameters
    ----------
    kind : str
        ``gaussian``: mean and standard deviation 128, clipped. ``uniform``: uniform values. ``rademacher``: 0 or 255.
        ``blobs``: smoothed Bernoulli noise with soft edges (Hendrycks et al. 2019). ``constant``: one grey value per
        image.
    n, size, channels : int
        Number of images, their height and width, and 1 (grey) or 3 (RGB) channels.
    seed : int
        Seed of the generator.

    Raises
    ------
    UsageError
        If an option is out of range.
    """
    if kind not in NOISES:
        raise UsageError(f"noise:{kind} is unknown; there are {', '.join(NOISES)}")
    if channels not in (1, 3):
        raise UsageError(f"noise: channels must be 1 or 3, not {channels}")
    _check_size(n, size, channels)
    rng = np.random.default_rng([seed, zlib.crc32(split.encode())])
    images = np.empty((n, size, size, channels), np.uint8)
    for image in images:
        image[...] = _draw(rng, kind, image.shape)
    return packed_set(images)


def _draw(rng: np.random.Generator, kind: str, shape: tuple[int, ...]) -> np.ndarray | int:
    if kind == "gaussian":
        return np.clip(np.rint(rng.normal(128, 128, shape)), 0, 255)
    if kind == "uniform":
        return rng.integers(256, size=shape)
    if kind == "rademacher":
        return 255 * rng.integers(2, size=shape)
    if kind == "constant":
        return int(rng.integers(256))
    from scipy.ndimage import gaussian_filter

    width = 1.5 * shape[0] / 32
    smooth = gaussian_filter(rng.binomial(1, 0.7, shape).astype(np.float64), (width, width, 0))
    return np.rint(255 * np.where(smooth < 0.75, 0, smooth))


def _check_size(n: int, size: int, channels: int) -> None:
    if min(n, size) < 1 or n * size * size * channels > MAX_BYTES:
        raise UsageError(
            f"{n} images of {size} x {size} x {channels} are empty or exceed the memory limit; choose other sizes"
        )
