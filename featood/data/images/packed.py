"""Packed sets: npz archives and folders of npy files, with images and labels under their usual names."""

from __future__ import annotations

__all__ = ["packed", "packed_file", "packed_splits"]

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from featood.data.images.arrays import Array, find_fields, npz_arrays
from featood.data.images.image_set import ImageSet, packed_set
from featood.data.images.pixels import as_pixels
from featood.data.labels import set_labels
from featood.data.layouts import SPLITS, Loader, canonical, choice, find_split, noting
from featood.errors import DataError, reading
from featood.readers.labels import texts_of


def packed(folder: Path, split: str) -> Loader | None:
    """Layout ``FOLDER/<split>.npz``, or arrays of that split in another archive or in npy files of the folder.

    Raises
    ------
    DataError
        If several archives contain the split.
    """
    own = find_split(folder, split, (".npz",))
    if own is not None:
        others = [path for name in SPLITS if (path := find_split(folder, name, (".npz",)))]
        loader = partial(_read_archive, own, split, others if split in SPLITS else ())
        return noting(loader, *choice(own, split, (".npz",)))
    archives, arrays = _packed_files(folder)
    holding = [path for path in archives if split in SPLITS and split in _splits_within(path)]
    if len(holding) > 1:
        raise DataError(
            f"{folder} contains several packed sets ({holding[0].name}, {holding[1].name}); give the path of one"
        )
    if holding:
        return partial(_read_archive, holding[0], split)
    fields = find_fields(arrays)
    plain = fields.get("", {})
    if split == "test" and "images" in plain and len(fields) == 1:
        return partial(_load, arrays, plain, folder)
    if split not in (*SPLITS, *fields) and split in arrays and _is_images(arrays[split]):
        fields[split] = {"images": split}
    return partial(_load, arrays, plain | fields[split], folder) if split in fields else None


def packed_splits(folder: Path) -> list[str]:
    """List the packed sets in a folder that are not named like splits: ``corrupted.npz``, ``fog.npy``."""
    archives, arrays = _packed_files(folder)
    taken = {key for both in find_fields(arrays).values() for key in both.values()}
    stems = [path.stem for path in archives if not _splits_within(path)]
    return sorted({*stems, *(stem for stem in arrays if stem not in taken and _is_images(arrays[stem]))})


def packed_file(folder: Path, split: str, path: Path) -> Loader | None:
    """Layout of one npz or npy file: the splits that its keys name, otherwise ``test``."""
    if path.suffix.lower() == ".npy":
        load = partial(_load, {path.stem: Array(path)}, {"images": path.stem}, path)
        return load if split == "test" else None
    if split in (_splits_within(path) or ("test",)):
        return partial(_read_archive, path, split)
    return None


def _packed_files(folder: Path) -> tuple[list[Path], dict[str, Array]]:
    """List the npz archives that are not named like a split, and the npy files by stem."""
    if not folder.is_dir():
        return [], {}
    names = sorted(name for name in os.listdir(folder) if name.lower().endswith((".npz", ".npy")))
    paths = [folder / name for name in names]
    archives = [
        path for path in paths if path.suffix.lower() == ".npz" and canonical(path.stem) not in SPLITS
    ]
    return archives, {path.stem: Array(path) for path in paths if path.suffix.lower() == ".npy"}


def _splits_within(path: Path) -> list[str]:
    """List the splits named by the keys of an archive; none if it is unreadable, which the reader reports."""
    try:
        return [split for split in find_fields(npz_arrays(path)) if split]
    except DataError:
        return []


def _is_images(array: Array) -> bool:
    try:
        return len(array.head()[0]) in (3, 4)
    except DataError:
        return False


def _read_archive(path: Path, split: str, siblings: Iterable[Path] = ()) -> ImageSet:
    arrays = npz_arrays(path)
    fields = find_fields(arrays)
    chosen = fields.get(split) or fields.get("", {})
    if "images" not in chosen:
        raise DataError(f"{path} contains no array named images or x; it has {', '.join(arrays) or 'none'}")
    return _load(arrays, chosen, path, [npz_arrays(other) for other in siblings if other != path])


def _load(
    arrays: Mapping[str, Array],
    chosen: Mapping[str, str],
    where: Path,
    siblings: Iterable[Mapping[str, Array]] = (),
) -> ImageSet:
    """Read images and labels; class names are numbered over all splits, including ``siblings``."""
    images, labels = arrays[chosen["images"]], arrays.get(chosen.get("labels", ""))
    if labels is not None and len(images.head()[0]) < 3 <= len(labels.head()[0]):
        # arr_0 and arr_1 are in any order
        images, labels, chosen = labels, images, {"images": chosen["labels"], "labels": chosen["images"]}
    with reading(where):
        pixels, notes = as_pixels(images.read(), images)
        found = packed_set(pixels, name=str(where), sources=(images.path,))
        found = found.with_notes(*_names_read(arrays, chosen), *notes)
        if labels is None:
            return found
        names = partial(_label_names, [arrays, *siblings])
        indices, classes, notes = set_labels(labels.read(), len(pixels), labels, names)
        files = tuple(dict.fromkeys((images.path, labels.path)))
        return replace(found, labels=indices, classes=classes, sources=files).with_notes(*notes)


def _label_names(groups: Iterable[Mapping[str, Array]]) -> set[str]:
    """Collect the class names in the labels of all splits."""
    names: set[str] = set()
    for arrays in groups:
        for both in find_fields(arrays).values():
            labels = arrays.get(both.get("labels", ""))
            if labels is not None and labels.head()[1].kind in "US":
                names.update(texts_of(labels.read()))
    return names


def _names_read(arrays: Mapping[str, Array], chosen: Mapping[str, str]) -> list[str]:
    """Return notes about the arrays read as images and labels, if these do not have exactly those names."""
    known = {key for both in find_fields(arrays).values() for key in both.values()}
    rest = [key for key in arrays if key not in known and key not in chosen.values()]
    plain = all(key == kind for kind, key in chosen.items())
    notes = []
    if not plain and len(arrays) > 1:
        notes.append(
            "arrays read: " + ", ".join(f"{kind} from {key!r}" for kind, key in sorted(chosen.items()))
        )
    if rest:
        notes.append(f"arrays not read: {', '.join(rest[:5])}" + ", ..." * (len(rest) > 5))
    return notes
