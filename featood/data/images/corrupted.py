"""Layouts of sets with corruptions, which the selector of a name chooses: ``cifar10-c:fog,severity=3``."""

from __future__ import annotations

__all__ = [
    "CORRUPTIONS",
    "DIGIT_CORRUPTIONS",
    "cifar_corrupted",
    "imagenet_corrupted",
    "mnist_corrupted",
    "noisy_digits",
]

from functools import partial
from pathlib import Path

import numpy as np

from featood.data.folders import read_folder
from featood.data.images.arrays import Array
from featood.data.images.formats import idx_files
from featood.data.images.image_set import FOLDERS, ImageSet, packed_set
from featood.data.images.packed import packed
from featood.data.layouts import Loader
from featood.errors import DataError, UsageError

CORRUPTIONS = (
    "brightness", "contrast", "defocus_blur", "elastic_transform", "fog", "frost", "gaussian_blur", "gaussian_noise",
    "glass_blur", "impulse_noise", "jpeg_compression", "motion_blur", "pixelate", "saturate", "shot_noise", "snow",
    "spatter", "speckle_noise", "zoom_blur",
)  # fmt: skip
DIGIT_CORRUPTIONS = (
    "brightness", "canny_edges", "dotted_line", "fog", "glass_blur", "impulse_noise", "motion_blur", "rotate", "scale",
    "shear", "shot_noise", "spatter", "stripe", "translate", "zigzag",
)  # fmt: skip
SEVERITIES = 5
ALL = "all"


def cifar_corrupted(
    folder: Path, split: str, *, kind: str = ALL, severity: int = 0, seed: int = 0
) -> Loader | None:
    """Layout ``<corruption>.npy``, five severities one after the other, and ``labels.npy``, as in CIFAR-10-C.

    Parameters
    ----------
    folder, split
        See :mod:`featood.data.layouts`.
    kind : str
        A corruption; ``all`` gives each test image one of the corruptions, drawn with `seed`.
    severity : int
        1 to 5; 0 is all five, or with ``all`` a severity drawn for each image.
    seed : int
        Seed of the draw.
    """
    _check(kind, CORRUPTIONS, severity)
    kinds = [name for name in CORRUPTIONS if (folder / f"{name}.npy").is_file()] if kind == ALL else [kind]
    paths = [folder / f"{name}.npy" for name in kinds]
    if (
        split != "test"
        or not (folder / "labels.npy").is_file()
        or not all(map(Path.is_file, paths))
        or not paths
    ):
        return None

    def load() -> ImageSet:
        labels = Array(folder / "labels.npy").read()
        rows = len(labels) // SEVERITIES
        if rows * SEVERITIES != len(labels):
            raise DataError(f"{folder / 'labels.npy'} does not have the labels of {SEVERITIES} severities")
        if kind != ALL:
            part = slice((severity - 1) * rows, severity * rows) if severity else slice(None)
            return packed_set(_read(paths[0], len(labels))[part], labels[part], sources=tuple(paths))
        rng = np.random.default_rng(seed)
        which = rng.integers(len(paths), size=rows)
        level = rng.integers(SEVERITIES, size=rows) if not severity else np.full(rows, severity - 1)
        images = _drawn(paths, which, len(labels), level * rows + np.arange(rows))
        how = f"severity {severity}" if severity else f"a severity of 1 to {SEVERITIES}"
        note = f"each image has one of {len(paths)} corruptions at {how}, drawn with seed {seed}"
        return packed_set(images, labels[:rows], sources=tuple(paths)).with_notes(note)

    return load


def mnist_corrupted(folder: Path, split: str, *, kind: str = ALL, seed: int = 0) -> Loader | None:
    """Layout ``<corruption>/<split>_images.npy`` and ``<split>_labels.npy`` of MNIST-C.

    See :func:`cifar_corrupted`; there are no severities.
    """
    _check(kind, (*DIGIT_CORRUPTIONS, "identity"))
    kinds = [name for name in DIGIT_CORRUPTIONS if (folder / name).is_dir()] if kind == ALL else [kind]
    paths = [folder / name / f"{split}_images.npy" for name in kinds]
    if not paths or not all(map(Path.is_file, paths)):
        return None

    def load() -> ImageSet:
        labels = Array(folder / kinds[0] / f"{split}_labels.npy").read()
        if kind != ALL:
            return packed_set(_read(paths[0], len(labels)), labels, sources=tuple(paths))
        which = np.random.default_rng(seed).integers(len(paths), size=len(labels))
        images = _drawn(paths, which, len(labels), np.arange(len(labels)))
        note = f"each image has one of {len(paths)} corruptions, drawn with seed {seed}"
        return packed_set(images, labels, sources=tuple(paths)).with_notes(note)

    return load


def imagenet_corrupted(folder: Path, split: str, *, kind: str = ALL, severity: int = 3) -> Loader | None:
    """Layout ``<corruption>/<severity>/<class>/*.JPEG`` of ImageNet-C, also inside ``noise/``, ``blur/``, ...

    There is no draw from all corruptions; without a `kind`, the list of OpenOOD is read.
    """
    _check(kind, CORRUPTIONS, severity)
    if split != "test" or kind == ALL:
        return None
    places = [folder / kind, *sorted(folder.glob(f"*/{kind}"))]
    found = [place / str(severity) for place in places if (place / str(severity)).is_dir()]
    return partial(read_folder, found[0], FOLDERS) if found else None


def noisy_digits(folder: Path, split: str, *, seed: int = 0) -> Loader | None:
    """Layout of MNIST, to whose images uniform noise is added, as in the experiments of VMDLS.

    The authors add noise from U[0, 1] after scaling images to [-1, 1], which is U[0, 0.5] on images in [0, 1]. Here
    sums above 1 are clipped, because images are stored in bytes.
    """
    loader = (packed(folder, split) or idx_files(folder, split)) if split == "test" else None
    if loader is None:
        return None

    def load() -> ImageSet:
        digits = loader()
        assert digits.array is not None
        noise = np.random.default_rng(seed).uniform(0, 127.5, digits.array.shape)
        noisy = np.minimum(np.rint(digits.array + noise), 255).astype(np.uint8)
        note = f"MNIST with noise from U[0, 0.5] on [0, 1], drawn with seed {seed}, clipped at 1"
        return packed_set(noisy, digits.labels, sources=digits.sources).with_notes(*digits.notes, note)

    return load


def _check(kind: str, known: tuple[str, ...], severity: int = 0) -> None:
    if kind not in (ALL, *known):
        raise UsageError(f"no corruption is named {kind!r}; there are {', '.join(known)}, and {ALL}")
    if not 0 <= severity <= SEVERITIES:
        raise UsageError(f"the severity of a corruption is 1 to {SEVERITIES}, not {severity}")


def _read(path: Path, rows: int) -> np.ndarray:
    images = Array(path).read()
    if len(images) != rows:
        raise DataError(f"{path} has {len(images)} images, but there are {rows} labels; download it again")
    return images


def _drawn(paths: list[Path], which: np.ndarray, rows: int, places: np.ndarray) -> np.ndarray:
    """Return an array with the image of each row from the file `which`, at its place in that file."""
    images: np.ndarray | None = None
    for number, path in enumerate(paths):
        content = _read(path, rows)
        if images is None:
            images = np.empty((len(which), *content.shape[1:]), content.dtype)
        images[which == number] = content[places[which == number]]
    assert images is not None
    return images
