"""Layouts of particular sets, as distributed by their authors or downloaded by torchvision.

Each is a function of a folder and a split, as in :mod:`featood.data.layouts`.
"""

from __future__ import annotations

__all__ = ["celeba", "dtd", "gtsrb", "idx_files", "omniglot", "sumnist", "svhn", "tiny_imagenet"]

import csv
import gzip
import math
from functools import partial
from pathlib import Path

import numpy as np

from featood.data.folders import folder_labels, read_folder, split_folder
from featood.data.images.arrays import npz_arrays
from featood.data.images.image_set import FOLDERS, ImageSet, packed_set
from featood.data.images.lists import read_list
from featood.data.images.pixels import as_pixels
from featood.data.images.reading import read_image
from featood.data.layouts import Loader
from featood.data.scanning import subfolders
from featood.errors import DataError, UsageError, reading

MAX_BYTES = 1 << 32
SUM = 20
"""Sum of the four digits of images without an anomaly."""


def idx_files(
    folder: Path,
    split: str,
    prefixes: tuple[str, str] = ("train", "t10k"),
    transpose: bool = False,
    first_label: int = 0,
) -> Loader | None:
    """Layout ``<prefix>-images-idx3-ubyte`` and ``<prefix>-labels-idx1-ubyte``, plain or ``.gz``.

    EMNIST stores transposed images, and counts its letters from one; ``transpose`` and ``first_label`` correct that.
    """
    prefix = {"train": prefixes[0], "test": prefixes[1]}.get(split)
    images = _plain_or_gz(folder / f"{prefix}-images-idx3-ubyte")
    labels = _plain_or_gz(folder / f"{prefix}-labels-idx1-ubyte")
    if images is None or labels is None:
        return None

    def load() -> ImageSet:
        pixels = _read_idx(images, 3)
        indices = _read_idx(labels, 1).astype(np.int64) - first_label
        upright = pixels.swapaxes(1, 2) if transpose else pixels
        return packed_set(upright, indices, name=str(images), sources=(images, labels))

    return load


def _plain_or_gz(path: Path) -> Path | None:
    return next((p for p in (path, path.with_name(path.name + ".gz")) if p.is_file()), None)


def _read_idx(path: Path, dimensions: int) -> np.ndarray:
    """Read big-endian data: two zero bytes, type 8 (uint8), the number of dimensions, their sizes, the values."""
    with reading(path), gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
        head = np.frombuffer(file.read(4 + 4 * dimensions), ">u4")
        if len(head) != 1 + dimensions or head[0] != 0x800 + dimensions:
            raise DataError(f"{path} is not an idx file of bytes with {dimensions} dimensions")
        shape = head[1:].tolist()
        size = math.prod(shape)
        data = file.read(min(size, MAX_BYTES) + 1)
        if len(data) != size:
            raise DataError(f"{path} is damaged: its header declares {size} bytes; download it again")
        return np.frombuffer(data, np.uint8).reshape(shape)


def svhn(folder: Path, split: str) -> Loader | None:
    """Layout ``<split>_32x32.mat`` in MATLAB 5 format; the digit 0 is stored as 10."""
    path = folder / f"{split}_32x32.mat"
    if not path.is_file():
        return None

    def load() -> ImageSet:
        from scipy.io import loadmat

        with reading(path):
            content = loadmat(path, variable_names=("X", "y"))
            return packed_set(
                content["X"].transpose(3, 0, 1, 2), content["y"].reshape(-1) % 10, sources=(path,)
            )

    return load


def dtd(folder: Path, split: str) -> Loader | None:
    """Layout ``images/<class>/*.jpg`` with the lists of the first of ten official partitions."""
    path = folder / "labels" / f"{split}1.txt"
    if not (path.is_file() and (folder / "images").is_dir()):
        return None

    def load() -> ImageSet:
        listed = read_list(path, folder / "images")
        classes = tuple(sorted(subfolders(folder / "images")))
        with reading(path):
            labels = folder_labels(listed.ids, classes)
        return ImageSet(ids=listed.ids, labels=labels, classes=classes, root=listed.root)

    return load


def gtsrb(folder: Path, split: str) -> Loader | None:
    """Layout ``GTSRB/Training/<class>/*.ppm``; ``GTSRB/Final_Test/Images/*.ppm`` with ``GT-final_test.csv``."""
    training, test = folder / "GTSRB" / "Training", folder / "GTSRB" / "Final_Test" / "Images"
    if split == "train" and training.is_dir():
        return partial(read_folder, training, FOLDERS)
    table = folder / "GT-final_test.csv"
    if not (split == "test" and table.is_file() and test.is_dir()):
        return None

    def load() -> ImageSet:
        with reading(table), open(table, newline="", encoding="utf-8") as file:
            rows = [(row["Filename"], int(row["ClassId"])) for row in csv.DictReader(file, delimiter=";")]
        return _listed(table, test, rows)

    return load


def celeba(folder: Path, split: str) -> Loader | None:
    """Layout ``img_align_celeba/*.jpg`` with ``list_eval_partition.txt`` (0 train, 1 val, 2 test); no labels."""
    path, images = folder / "list_eval_partition.txt", folder / "img_align_celeba"
    if not (split in ("train", "val", "test") and path.is_file() and images.is_dir()):
        return None

    def load() -> ImageSet:
        with reading(path):
            rows = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
            part = ("train", "val", "test").index(split)
            return _listed(path, images, [(name, -1) for name, number in rows if int(number) == part])

    return load


def tiny_imagenet(folder: Path, split: str) -> Loader | None:
    """Layout ``val/images/*`` with ``val/val_annotations.txt``, as distributed; other splits are plain folders."""
    path, images = folder / "val" / "val_annotations.txt", folder / "val" / "images"
    if not (path.is_file() and images.is_dir()):
        return None
    if split != "val":
        return split_folder(folder, split, FOLDERS)

    def load() -> ImageSet:
        with reading(path):
            rows = [line.split("\t")[:2] for line in path.read_text(encoding="utf-8").splitlines()]
            classes = sorted(subfolders(folder / "train") or {wnid for _, wnid in rows})
            rank = {wnid: index for index, wnid in enumerate(classes)}
            return _listed(path, images, [(name, rank[wnid]) for name, wnid in rows], tuple(classes))

    return load


def omniglot(folder: Path, split: str) -> Loader | None:
    """Layout ``images_background`` (train) or ``images_evaluation`` (test), black on white.

    The images are inverted to white on black, as in MNIST, and packed. No labels: the splits share no character.
    """
    inner = folder / {"train": "images_background", "test": "images_evaluation"}.get(split, "")
    if inner == folder or not inner.is_dir():
        return None

    def load() -> ImageSet:
        ids = read_folder(inner, FOLDERS).ids
        with reading(inner):
            return packed_set(255 - np.stack([read_image(inner / name) for name in ids]))

    return load


def _listed(path: Path, root: Path, rows: list[tuple[str, int]], classes: tuple[str, ...] = ()) -> ImageSet:
    if not rows or any("/" in name or name == ".." for name, _ in rows):
        raise DataError(f"{path} does not list plain file names")
    labels = np.array([label for _, label in rows], np.int64)
    return ImageSet(
        ids=tuple(name for name, _ in rows),
        labels=labels if (labels >= 0).any() else None,
        classes=classes,
        root=root,
    )


def sumnist(folder: Path, split: str, *, kind: str = "") -> Loader | None:
    """Layout ``x-<split>.npz`` and ``y-<split>.npz``: images of four digits, and these.

    Class 0 are the images whose digits sum to 20 (`kind` ``known``), class 1 the others (``unknown``).
    """
    images, digits = folder / f"x-{split}.npz", folder / f"y-{split}.npz"
    if not (images.is_file() and digits.is_file()):
        return None
    if kind not in ("", "known", "unknown"):
        raise UsageError(f"sumnist:{kind} is unknown; there are known and unknown")

    def load() -> ImageSet:
        with reading(images):
            pixels, notes = as_pixels(npz_arrays(images)["arr_0"].read(), images)
        with reading(digits):
            odd = npz_arrays(digits)["arr_0"].read().sum(axis=1) != SUM
        found = packed_set(pixels, odd.astype(np.int64), name=str(images), sources=(images, digits))
        return (found.subset(odd == (kind == "unknown")) if kind else found).with_notes(*notes)

    return load
