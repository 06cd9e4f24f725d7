"""From a name to a set of images: registered sets, folders in the data directory, and paths."""

from __future__ import annotations

__all__ = ["available_splits", "default_data_dir", "open_dataset"]

import hashlib
import os
import re
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PureWindowsPath

from featood.data.archives import ARCHIVE_SUFFIXES, unpack
from featood.data.image_set import ImageSet
from featood.data.layouts import SPLITS, Layout, Loader, image_folder, image_list, packed_npz, read_npz
from featood.data.registry import DatasetEntry, get_entry
from featood.data.selection import keyword_options, select_classes
from featood.data.table_sets import refuse_table
from featood.errors import DataError, UsageError

StrPath = str | os.PathLike[str]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(:[A-Za-z0-9.,=_-]+)?")
_OPENOOD_ROOTS = ("images_classic", "images_largescale")


@dataclass(frozen=True)
class _Source:
    """A name understood. ``groups`` are the layouts to try; the first group that finds anything counts."""

    name: str
    entry: DatasetEntry
    groups: list[list[tuple[Path, Layout]]]
    classes: str = ""  # the class selector, if any


def default_data_dir() -> Path:
    """Where sets are looked for: the environment variable FEATOOD_DATA, or else ``./data``."""
    return Path(os.environ.get("FEATOOD_DATA") or "data")


def open_dataset(name: StrPath, split: str | None = None, data_dir: StrPath | None = None) -> ImageSet:
    """Open a set of images.

    Parameters
    ----------
    name : str or path
        A registered set (``cifar10``), some of its classes (``cifar10:0-5``, ``cifar10:0,3,7-9``; the
        labels become 0 to k-1 in their old order), a generated set with options
        (``noise:uniform,n=500,size=64``), a folder in the data directory, or a path: a folder of
        images (``./folder``, ``/data/photos``), a packed ``.npz``, an image list ``.txt``.
    split : str, optional
        Default: ``test`` where there is one, else ``val``, else the first there is.
    data_dir : path, optional
        Default: :func:`default_data_dir`. An archive that lies there (``LSUN.tar.gz``) is unpacked.

    Raises
    ------
    UsageError
        If the name is unknown or malformed.
    DataError
        If the set or the split is not there; the text says where to get it and where to put it.
    """
    root = default_data_dir() if data_dir is None else Path(data_dir)
    source = _locate(name, root)
    loaders = _loaders(source)
    archive = None if loaders else _archive(source.entry, root)
    if archive is not None:
        unpack(archive, root / source.entry.name)
        source = _locate(name, root)
        loaders = _loaders(source)
    if not loaders:
        refuse_table(source.entry.name)
        raise DataError(_missing(source.entry, root))
    chosen = split or next((s for s in ("test", "val") if s in loaders), next(iter(loaders)))
    if chosen not in loaders:
        raise DataError(f"{source.name} has no split {chosen!r} here; there is {', '.join(loaders)}")
    images, entry = loaders[chosen](), source.entry
    images = replace(images, name=source.name, split=chosen, classes=images.classes or entry.classes)
    if len(images) == 0:
        raise DataError(f"{source.name}/{chosen} is empty")
    if images.labels is not None and 0 < entry.num_classes <= (top := int(images.labels.max())):
        raise DataError(f"{source.name}/{chosen} has label {top}; {entry.num_classes} classes count from 0")
    return select_classes(images, source.classes) if source.classes else images


def available_splits(name: StrPath, data_dir: StrPath | None = None) -> list[str]:
    """List the splits that can be opened now; those of an archive that is not unpacked yet count.

    Raises
    ------
    UsageError
        If the name is unknown or malformed, or that of a table.
    DataError
        If it is a path and does not exist.
    """
    root = default_data_dir() if data_dir is None else Path(data_dir)
    source = _locate(name, root)
    there = list(_loaders(source) or (source.entry.splits if _archive(source.entry, root) else ()))
    if not there:
        refuse_table(source.entry.name)
    return there


def _locate(name: StrPath, root: Path) -> _Source:
    text = os.fspath(name)
    if any(char < " " for char in text) or ".." in PureWindowsPath(text).parts:
        raise UsageError(f"{text!r} is refused as a set of images: no `..`, no control characters")
    if isinstance(name, os.PathLike) or text[:1] in (".", "/", "~") or Path(text).is_absolute():
        return _locate_path(Path(os.path.expanduser(text)), root)
    if not _NAME.fullmatch(text):
        raise UsageError(f"{text!r} is no name of a set of images; a folder of images is given as ./folder")
    base, _, selector = text.partition(":")
    try:
        entry = get_entry(base)
    except UsageError:
        if not os.path.isdir(root / base):
            raise
        entry = DatasetEntry(name=base, title=base, source="")
    name = f"{entry.name}:{selector}" if selector else entry.name
    if entry.generate is None:
        return _Source(name, entry, _groups(entry, root), selector)
    options = {} if entry.num_classes else keyword_options(entry.name, selector, entry.generate)
    generated = partial(_generated, entry=entry, options=options)
    return _Source(name, entry, [[(root, generated)]], selector if entry.num_classes else "")


def _locate_path(path: Path, root: Path) -> _Source:
    """Name a set given by its path after the last folder, and a hash to tell apart those of one name."""
    if not os.path.exists(path):  # unlike Path.exists, no error for a name that is too long
        raise DataError(f"{path} does not exist")
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", path.resolve().stem).strip(".-") or "images"
    name = f"{slug}-{hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:8]}"
    layouts: tuple[Layout, ...] = (packed_npz, image_list, image_folder)
    if path.is_file() and path.suffix in (".npz", ".txt"):
        roots = (path.parent.resolve(), root.resolve(), *(root.resolve() / r for r in _OPENOOD_ROOTS))
        layouts = (partial(_one_file, path=path, roots=tuple(map(str, roots))),)
    return _Source(name, DatasetEntry(name=name, title=str(path), source=""), [[(path, x) for x in layouts]])


def _groups(entry: DatasetEntry, root: Path) -> list[list[tuple[Path, Layout]]]:
    inner = [name for name in entry.folders if name != "."]
    places = dict.fromkeys((entry.name, *inner, *(f"{entry.name}/{name}" for name in inner)))
    # Compared with the listing: where the file system ignores case, ODIN's Imagenet/ is not imagenet/.
    present = {path.name for path in root.iterdir()} if root.is_dir() else set()
    folders = [root / place for place in places if place.partition("/")[0] in present]
    own: list[tuple[Path, Layout]] = [
        (folder, layout) for layout in (packed_npz, *entry.layouts) for folder in folders
    ]
    general: list[tuple[Path, Layout]] = [
        (folder, layout) for layout in (image_list, image_folder) for folder in folders
    ]
    openood: list[tuple[Path, Layout]] = []
    if "." in entry.folders:
        own += [(root, layout) for layout in entry.layouts]
    if entry.openood:
        roots = tuple(f"../{name}" for name in _OPENOOD_ROOTS)
        openood.append((root / "benchmark_imglist", partial(image_list, pattern=entry.openood, roots=roots)))
    return [own, general, openood]


def _loaders(source: _Source) -> dict[str, Loader]:
    """Find a function that reads it for each split that is there."""
    for group in source.groups:
        packed = sorted({path.stem for folder, _ in group for path in folder.glob("*.npz")})
        found = {}
        for split in dict.fromkeys((*SPLITS, *source.entry.splits, *packed)):
            loader = next(filter(None, (layout(folder, split) for folder, layout in group)), None)
            if loader is not None:
                found[split] = loader
        if found:
            return found
    return {}


def _generated(folder: Path, split: str, entry: DatasetEntry, options: dict[str, str | int]) -> Loader | None:
    assert entry.generate is not None
    return partial(entry.generate, split, **options) if split in entry.splits else None


def _one_file(folder: Path, split: str, path: Path, roots: tuple[str, ...]) -> Loader | None:
    if split != "test":
        return None
    if path.suffix == ".npz":
        return partial(read_npz, path)
    return image_list(path.parent, path.stem, roots=roots)


def _archive(entry: DatasetEntry, root: Path) -> Path | None:
    stems = (entry.name, *(name for name in entry.folders if "/" not in name and name != "."))
    candidates = (root / (stem + suffix) for stem in stems for suffix in ARCHIVE_SUFFIXES)
    return next((path for path in candidates if path.is_file()), None)


def _missing(entry: DatasetEntry, root: Path) -> str:
    if not entry.source:
        return f"{entry.title} holds no images, no <split>.npz and no image list"
    hint = " (or add --download)" if entry.download else ""
    return f"{entry.name} is not in {root}: get it from {entry.source} and put it into {root / entry.name}/{hint}"
