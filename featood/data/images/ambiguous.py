"""Ambiguous digits: the published ones, and a substitute that is interpolated from MNIST."""

from __future__ import annotations

__all__ = ["COPIES", "dirty", "interpolated", "published"]

import zlib
from pathlib import Path

import numpy as np

from featood.data.images.image_set import ImageSet, joined_set, packed_set
from featood.data.layouts import Loader
from featood.errors import DataError, reading
from featood.readers.tensor_files import TORCH

SAMPLES, LABELS = "amnist_samples.pt", "amnist_labels.pt"
TRAINING_ROWS = 60_000
IMAGES, COPIES = 6_000, 10
"""Ambiguous images of a split, and rows of each image, which differ in the label."""


def published(folder: Path, split: str) -> Loader | None:
    """Layout ``amnist_samples.pt`` (floats in [0, 1]) and ``amnist_labels.pt`` (several labels for each image).

    The files hold tensors only, and are read without unpickling. An image has one row for each of its labels; the
    first 60,000 rows are ``train``, the others ``test``.
    """
    paths = folder / SAMPLES, folder / LABELS
    if split not in ("train", "test") or not all(path.is_file() for path in paths):
        return None

    def load() -> ImageSet:
        with reading(folder):
            images, labels = (np.asarray(TORCH.read(path).values[0]) for path in paths)
        if images.shape != (len(labels), 1, 28, 28) or labels.ndim != 2 or labels.dtype.kind not in "iu":
            raise DataError(
                f"{folder}: {SAMPLES} must be [N, 1, 28, 28] and {LABELS} whole numbers [N, M], not "
                f"{list(images.shape)} and {labels.dtype} {list(labels.shape)}; download them again"
            )
        if images.dtype.kind != "f" or not (images.min() >= 0 and images.max() <= 1):
            raise DataError(f"{paths[0]}: pixels must be floats in [0, 1]; download it again")
        copies = labels.shape[1]
        part = slice(None, TRAINING_ROWS) if split == "train" else slice(TRAINING_ROWS, None)
        rows = np.arange(labels.size)[part]
        pixels = np.rint(255 * images[:, 0]).astype(np.uint8)[rows // copies]
        found = packed_set(pixels, labels.reshape(-1)[rows], sources=paths)
        return found.with_notes(
            "pixels are rounded to 256 levels", f"every image has {copies} rows with their labels"
        )

    return load


def interpolated(split: str, digits: ImageSet) -> ImageSet:
    """Return ambiguous digits made of pairs of digits, a substitute for Ambiguous-MNIST.

    Each of 6,000 digits (drawn with seed 0) is averaged with the most similar of them that has another class. Like an
    image of Ambiguous-MNIST, the mean has ten rows, whose labels are drawn from the two classes with equal probability.

    Parameters
    ----------
    split : str
        Its draws differ from those of other splits.
    digits : ImageSet
        A packed set with labels.
    """
    assert digits.array is not None and digits.labels is not None
    rng = np.random.default_rng([0, zlib.crc32(split.encode())])
    chosen = rng.permutation(len(digits))[:IMAGES]
    images, labels = digits.array[chosen], digits.labels[chosen]
    partners = nearest_of_other_classes(images.reshape(len(images), -1), labels)
    means = np.rint((images.astype(np.float32) + images[partners]) / 2).astype(np.uint8)
    second = rng.integers(2, size=(len(images), COPIES)).astype(bool)
    drawn = np.where(second, labels[partners][:, None], labels[:, None])
    found = packed_set(means.repeat(COPIES, axis=0), drawn.reshape(-1), sources=digits.sources)
    return found.with_notes(
        "images are means of two similar MNIST digits of different classes, interpolated here; they are not the "
        f"published Ambiguous-MNIST. Every image has {COPIES} rows, with labels drawn from its two classes"
    )


def dirty(split: str, digits: ImageSet, ambiguous: ImageSet) -> ImageSet:
    """Return MNIST followed by Ambiguous-MNIST (Mukhoti et al., Deep Deterministic Uncertainty, CVPR 2023)."""
    return joined_set([digits, ambiguous])


def nearest_of_other_classes(rows: np.ndarray, labels: np.ndarray, block: int = 1000) -> np.ndarray:
    """Return for each of the rows ``[N, D]`` the number of the nearest row with another label ``[N]``.

    Raises
    ------
    DataError
        If all labels are equal.
    """
    if len(np.unique(labels)) < 2:
        raise DataError("ambiguous digits need digits of at least two classes")
    values = rows.astype(np.float32)
    squares = np.square(values).sum(1)
    nearest = np.empty(len(rows), np.int64)
    for start in range(0, len(rows), block):
        part = slice(start, start + block)
        distances = squares - 2 * values[part] @ values.T
        distances[labels[part, None] == labels] = np.inf
        nearest[part] = distances.argmin(1)
    return nearest
