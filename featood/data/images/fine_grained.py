"""Layouts of fine-grained sets as distributed by their authors: birds, cars, aircraft, and classes of another set."""

from __future__ import annotations

__all__ = ["aircraft", "classes_of", "cub", "fooling", "one_file", "stanford_cars"]

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from featood.data.folders import split_folder
from featood.data.images.image_set import FOLDERS, ImageSet
from featood.data.images.packed import packed_file
from featood.data.layouts import Loader
from featood.errors import DataError, reading


def cub(folder: Path, split: str) -> Loader | None:
    """Layout of CUB-200-2011: ``images.txt``, ``image_class_labels.txt``, ``train_test_split.txt`` and ``images/``."""
    names = ("images.txt", "image_class_labels.txt", "train_test_split.txt", "classes.txt")
    paths = [folder / name for name in names]
    if split not in ("train", "test") or not all(map(Path.is_file, paths[:3])):
        return None

    def load() -> ImageSet:
        with reading(paths[0]):
            files, labels, train = (dict(_pairs(path)) for path in paths[:3])
            named = [name for _, name in _pairs(paths[3])] if paths[3].is_file() else []
            rows = [key for key in files if (train[key] == "1") == (split == "train")]
            numbers = [int(labels[key]) - 1 for key in rows]
        return _images(paths[0], folder / "images", [files[key] for key in rows], numbers, named)

    return load


def stanford_cars(folder: Path, split: str) -> Loader | None:
    """Layout of Stanford Cars: ``cars_train/``, ``cars_test/`` and the lists in ``devkit/*.mat``."""
    names = {"train": "cars_train_annos.mat", "test": "cars_test_annos_withlabels.mat"}
    table = next(
        (path for place in ("devkit", ".") if (path := folder / place / names.get(split, "?")).is_file()),
        None,
    )
    root = next((path for name in (f"cars_{split}",) if (path := folder / name).is_dir()), None)
    if table is None or root is None:
        return None

    def load() -> ImageSet:
        from scipy.io import loadmat

        with reading(table):
            rows = loadmat(table, squeeze_me=True)["annotations"]
            files, labels = [str(name) for name in rows["fname"]], [int(label) - 1 for label in rows["class"]]
        return _images(table, root, files, labels, [])

    return load


def aircraft(folder: Path, split: str) -> Loader | None:
    """Layout of FGVC-Aircraft: ``data/images/`` and ``data/images_variant_<split>.txt``; train includes val.

    The classes are the variants, in the order of their names.
    """
    data = folder / "data" if (folder / "data").is_dir() else folder
    table = data / f"images_variant_{'trainval' if split == 'train' else split}.txt"
    if split not in ("train", "test") or not table.is_file() or not (data / "variants.txt").is_file():
        return None

    def load() -> ImageSet:
        with reading(table):
            lines = (data / "variants.txt").read_text("utf-8").splitlines()
            variants = sorted(filter(None, map(str.strip, lines)))
            rank = {name: number for number, name in enumerate(variants)}
            rows = [(f"{name}.jpg", rank[variant]) for name, variant in _pairs(table)]
        return _images(table, data / "images", [row[0] for row in rows], [row[1] for row in rows], variants)

    return load


def classes_of(folder: Path, split: str, keep: Callable[[str], bool]) -> Loader | None:
    """Layout of class folders, of which only those whose names `keep` accepts are read; they are renumbered."""
    loader = split_folder(folder, split, FOLDERS)
    return None if loader is None else partial(_kept, loader, keep)


def fooling(folder: Path, split: str) -> Loader | None:
    """Layout ``run_<n>/map_gen_5000/*.png``, the last generation of each run."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.glob("run_*/map_gen_5000/*.png"))
    return partial(ImageSet, ids=tuple(names), root=folder) if split == "test" and names else None


def one_file(folder: Path, split: str, name: str, of: str = "train") -> Loader | None:
    """Layout of one npy or npz file of images, as the split `of`."""
    return packed_file(folder, "test", folder / name) if split == of and (folder / name).is_file() else None


def _kept(loader: Loader, keep: Callable[[str], bool]) -> ImageSet:
    images = loader()
    numbers = [number for number, name in enumerate(images.classes) if keep(name)]
    if images.labels is None or not numbers:
        raise DataError(f"{images.root} has no folders of these classes")
    chosen = images.subset(np.isin(images.labels, numbers))
    new = np.full(len(images.classes), -1)
    new[numbers] = np.arange(len(numbers))
    return chosen.with_classes(new, tuple(images.classes[number] for number in numbers))


def _pairs(path: Path) -> list[tuple[str, str]]:
    """Read lines of a key and a value, which may contain blanks."""
    with reading(path):
        lines = (line.split(maxsplit=1) for line in path.read_text("utf-8").splitlines() if line.strip())
        return [(key, value.strip()) for key, value in lines]


def _images(table: Path, root: Path, files: list[str], labels: list[int], classes: list[str]) -> ImageSet:
    if not files or any(".." in name.split("/") or name.startswith("/") for name in files):
        raise DataError(f"{table} does not list images below {root}")
    return ImageSet(ids=tuple(files), labels=np.array(labels, np.int64), classes=tuple(classes), root=root)
