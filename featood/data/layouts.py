"""The layouts any set may come in: packed npz, a list of images, a folder of images or of classes.

A layout is a function of a folder and a split. It looks whether its files are there, cheaply, and
returns the function that reads them, or None.
"""

from __future__ import annotations

__all__ = [
    "SPLITS",
    "Layout",
    "Loader",
    "folder_labels",
    "image_folder",
    "image_list",
    "packed_npz",
    "read_folder",
    "read_list",
    "read_npz",
    "subfolders",
]

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from featood.data.image_set import ImageSet, packed_set
from featood.data.reading import SUFFIXES, reading
from featood.errors import DataError

Loader = Callable[[], ImageSet]
Layout = Callable[[Path, str], Loader | None]
SPLITS = ("train", "val", "test")


def packed_npz(folder: Path, split: str) -> Loader | None:
    """``FOLDER/<split>.npz`` with ``images`` uint8 [N, H, W(, C)] and, perhaps, ``labels`` [N]."""
    path = folder / f"{split}.npz"
    return partial(read_npz, path) if path.is_file() else None


def read_npz(path: Path) -> ImageSet:
    """Read a packed set; object arrays (pickles) are refused."""
    with reading(path):
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise DataError(f"{path} is not an npz archive")
        with archive:
            if "images" not in archive:
                raise DataError(f"{path} holds no array called images")
            return packed_set(archive["images"], archive.get("labels"), name=str(path))


def image_list(
    folder: Path, split: str, pattern: str = "{split}.txt", roots: Sequence[str] = (".",)
) -> Loader | None:
    """``FOLDER/<split>.txt``, one ``path label`` a line; paths are relative to one of ``roots``.

    The root is the first below which the first image of the list exists; without any, the list does
    not count as there.
    """
    path = folder / pattern.format(split=split)
    if not path.is_file():
        return None
    first = next(_entries(path), None)
    found = (folder / root for root in roots if first and (folder / root / first[0]).is_file())
    root = next(found, None)
    return None if root is None else partial(read_list, path, root)


def read_list(path: Path, root: Path) -> ImageSet:
    """Read an image list; a label that is missing or negative is unknown."""
    ids, labels = zip(*_entries(path), strict=True)
    known = np.array(labels, np.int64)
    return ImageSet(ids=ids, labels=known if (known >= 0).any() else None, root=root)


def _entries(path: Path) -> Iterator[tuple[str, int]]:
    with reading(path), open(path, encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            name, label = line.strip(), -1
            if not name:
                continue
            head, *tail = name.rsplit(maxsplit=1)
            if tail and tail[0].lstrip("-").isdecimal():
                name, label = head, int(tail[0])
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\0" in name:
                raise DataError(f"{path}, line {number}: paths must stay below the folder of images")
            yield name, label


def image_folder(folder: Path, split: str) -> Loader | None:
    """``FOLDER/<split>/``, or FOLDER itself as ``test`` where it has no folders called after splits.

    Inside, ``<class>/*`` gives labels (the rank of the class among the class folders of all splits);
    images that lie flat, or nested in a single folder, have none.
    """
    inner = folder / split
    if not inner.is_dir():
        if split != "test" or any((folder / name).is_dir() for name in SPLITS):
            return None
        inner = folder
    return None if next(_images(inner), None) is None else partial(read_folder, inner, folder)


def read_folder(folder: Path, base: Path | None = None) -> ImageSet:
    """Read every image below ``folder``, in the order of their paths.

    Parameters
    ----------
    folder : Path
        The folder of one split.
    base : Path, optional
        The folder above, whose other splits are asked for their classes too, so that an index
        means the same class in each.
    """
    ids = tuple(sorted(_images(folder)))
    own = subfolders(folder)
    used = {name.partition("/")[0] for name in ids if "/" in name}
    splits = dict.fromkeys((folder, *((base or folder) / name for name in SPLITS)))
    # One folder alone (`images/`) is a place to put files, not a class.
    classes = sorted({name for names in map(subfolders, splits) if len(names) > 1 for name in names})
    if any("/" not in name for name in ids) or not used <= set(classes) or (own != used and len(used) == 1):
        return ImageSet(ids=ids, root=folder)
    if own != used:
        empty = ", ".join(sorted(own - used)[:3])
        raise DataError(
            f"{folder}: class folders without images ({empty}) would shift the labels; remove them"
        )
    return ImageSet(ids=ids, labels=folder_labels(ids, classes), classes=tuple(classes), root=folder)


def folder_labels(ids: Iterable[str], classes: Sequence[str]) -> np.ndarray:
    """Give the rank of the first folder of each path among ``classes``, int64 [N]."""
    rank = {name: index for index, name in enumerate(classes)}
    return np.array([rank[name.partition("/")[0]] for name in ids], np.int64)


def subfolders(folder: Path) -> set[str]:
    """Names of the visible folders directly in ``folder``; none where it does not exist."""
    if not folder.is_dir():
        return set()
    return {entry.name for entry in os.scandir(folder) if _visible(entry.name) and entry.is_dir()}


def _visible(name: str) -> bool:
    return not name.startswith((".", "__MACOSX"))


def _images(folder: Path) -> Iterator[str]:
    """Relative paths of the images below ``folder``; links are followed, loops are not."""
    seen = set()
    for here, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(filter(_visible, folders))
        status = os.stat(here)
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        prefix = Path(here).relative_to(folder)
        for name in files:
            if _visible(name) and os.path.splitext(name)[1].lower() in SUFFIXES:
                yield (prefix / name).as_posix()
