"""Opening a set by name: registered sets, folders and files in the data directory, and paths."""

from __future__ import annotations

__all__ = ["available_splits", "image_list_of", "open_dataset", "open_images"]

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from featood.data.archives import ARCHIVE_SUFFIXES, unpack
from featood.data.audio import audio_set
from featood.data.catalogue.registry import get_entry
from featood.data.class_order import ClassOrder, apply_class_order, read_class_order
from featood.data.entry import DatasetEntry
from featood.data.folders import FolderKind, split_folder, whole_folder
from featood.data.images import image_set
from featood.data.images.lists import (
    BENCHMARK_LISTS,
    BENCHMARK_ROOTS,
    LIST_SUFFIXES,
    benchmark_list,
    image_list,
    listed_file,
)
from featood.data.images.packed import packed, packed_file, packed_splits
from featood.data.input_set import InputSet
from featood.data.layouts import SPLITS, Layout, Loader, canonical, noting
from featood.data.naming import StrPath, checked_name, default_data_dir, is_path, path_key
from featood.data.selection import evenly_spaced, keyword_options, select_classes, split_limit
from featood.data.tables.sets import refuse_table
from featood.data.texts import files as text_files
from featood.errors import DataError, UsageError, reading

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(:[A-Za-z0-9.,=_-]+)?")
_LISTED = re.compile(r"list=([\w-]+)")
_FORMS: dict[Layout, str] = {packed: "the packed one", image_list: "the list"}


@dataclass(frozen=True)
class _Source:
    """A parsed name. ``groups`` are the layouts to try; the first group that finds anything is used."""

    name: str
    entry: DatasetEntry
    groups: list[list[tuple[Path, Layout]]]
    classes: str = ""  # the class selector, if any
    listed: str = ""  # the folder of the image list, if one is named


def open_dataset(
    name: StrPath,
    split: str | None = None,
    data_dir: StrPath | None = None,
    class_order: ClassOrder | None = None,
) -> InputSet:
    """Open a set of images, texts or recordings.

    Parameters
    ----------
    name : str or path
        A registered set (``cifar10``), some of its classes (``cifar10:0-5``, ``cifar10:0,3,7-9``; these are renumbered
        0 to k-1 in the same order), the rows of an image list of OpenOOD (``tiny-imagenet:list=cifar100``), a generated
        set with options (``noise:uniform,n=500,size=64``), a folder in the data directory, or a path: a folder of
        images (``./folder``, ``/data/photos``), packed images (``.npz``, ``.npy``), or an image list (``.txt``,
        ``.csv``, ``.tsv``, ``.lst``, ``.list``). A folder without images may contain texts: a table ``<split>.csv`` or
        a file ``<split>.txt`` of one text per line,
        or text files in class folders; such a table or file may also be given by its path. Otherwise, recordings in
        class folders are read. At the end of any of them, ``:limit=500`` (after a selector ``,limit=500``) takes 500
        rows, evenly spaced.
    split : str, optional
        By default ``test``, otherwise ``val``, otherwise the first available split. Other usual names such as
        ``validation`` are recognised.
    data_dir : path, optional
        Default: :func:`featood.data.default_data_dir`. Archives in it (``LSUN.tar.gz``) are unpacked.
    class_order : sequence of str or path, optional
        Names of the classes in the order of their indices; see :mod:`featood.data.class_order`.

    Returns
    -------
    InputSet
        An :class:`~featood.data.ImageSet`, :class:`~featood.data.TextSet` or :class:`~featood.data.AudioSet`; its
        ``notes`` state what was inferred, converted or left out.

    Raises
    ------
    UsageError
        If the name is unknown or malformed.
    DataError
        If the set or the split is missing (the message says where to get it and where to put it), or the order of the
        classes does not match.
    """
    name, limit = split_limit(name)
    if limit:
        return evenly_spaced(open_dataset(name, split, data_dir, class_order), limit)
    root = default_data_dir() if data_dir is None else Path(data_dir)
    order = None if class_order is None else read_class_order(class_order)
    source = _locate(name, root, order is not None)
    loaders, reasons = _loaders(source)
    archive = None if loaders else _archive(source, root)
    if archive is not None:
        unpack(archive, root / source.entry.name)
        source = _locate(name, root, order is not None)
        loaders, reasons = _loaders(source)
    if not loaders:
        refuse_table(source.entry.name)
        raise DataError(
            _missing_list(source, root, reasons) if source.listed else _missing(source.entry, root, reasons)
        )
    chosen = split or next((s for s in ("test", "val") if s in loaders), next(iter(loaders)))
    chosen = chosen if chosen in loaders else canonical(chosen)
    if chosen not in loaders:
        others = " or ".join(f"--split {one}" for one in loaders)
        raise DataError(
            f"{name} has no split {chosen!r}, only {', '.join(loaders)}: add {others}, or divide its files into "
            f"folders such as {chosen}/CLASS"
        )
    images, entry = loaders[chosen](), source.entry
    images = replace(images, name=source.name, split=chosen, classes=images.classes or entry.classes)
    if len(images) == 0:
        raise DataError(f"{source.name}/{chosen} is empty")
    if images.labels is not None and 0 < entry.num_classes <= (top := int(images.labels.max())):
        raise DataError(
            f"{source.name}/{chosen} has label {top}, but labels of its {entry.num_classes} classes start at 0"
        )
    if entry.untried:
        images = images.with_notes(
            f"the reader of {entry.title} was tested on small files of this layout only: check the number of "
            f"{entry.kind}"
        )
    if order is None and images.classes != entry.classes and set(images.classes) <= set(entry.classes):
        order = entry.classes
        images = images.with_notes(f"classes are numbered as in {entry.title}")
    if order is not None:
        images = apply_class_order(images, order)
    return (
        select_classes(images, source.classes, entry.groups, entry.num_classes) if source.classes else images
    )


def open_images(
    name: StrPath,
    split: str | None = None,
    data_dir: StrPath | None = None,
    class_order: ClassOrder | None = None,
) -> image_set.ImageSet:
    """Open a set of images, for what texts and recordings cannot be used for; see :func:`open_dataset`.

    Raises
    ------
    UsageError
        If it is a set of texts or recordings.
    """
    found = open_dataset(name, split, data_dir, class_order)
    if not isinstance(found, image_set.ImageSet):
        raise UsageError(f"{name} is a set of {found.kind}, and images are needed here")
    return found


def available_splits(name: StrPath, data_dir: StrPath | None = None) -> list[str]:
    """List the available splits, including those of an archive that is not unpacked yet.

    Raises
    ------
    UsageError
        If the name is unknown or malformed, or is a table.
    DataError
        If it is a path that does not exist.
    """
    root = default_data_dir() if data_dir is None else Path(data_dir)
    source = _locate(split_limit(name)[0], root)
    loaders, _ = _loaders(source)
    available = list(loaders or (source.entry.splits if _archive(source, root) else ()))
    if not available:
        refuse_table(source.entry.name)
    return available


def image_list_of(name: StrPath, data_dir: StrPath | None = None) -> str:
    """Return the benchmark whose image list is read for a name, as there are no other files; empty if none is."""
    root = default_data_dir() if data_dir is None else Path(data_dir)
    source = _locate(split_limit(name)[0], root)
    group = next((group for group in source.groups if _loaders(replace(source, groups=[group]))[0]), [])
    return next((folder.name for folder, _ in group if folder.parent.name == BENCHMARK_LISTS), "")


def _locate(name: StrPath, root: Path, ordered: bool = False) -> _Source:
    """Parse a name; ``ordered`` if the order of the classes is given."""
    text = checked_name(name)
    if is_path(name):
        return _locate_path(Path(os.path.expanduser(text)), root, ordered)
    if not _NAME.fullmatch(text):
        raise UsageError(f"{text!r} is not a name of a dataset; give a folder as ./folder")
    base, _, selector = text.partition(":")
    try:
        entry = get_entry(base)
    except UsageError:
        if not os.path.isdir(root / base) and _lone_file(base, root) is None:
            raise
        entry = DatasetEntry(name=base, title=base, source="", kind="")
    name = f"{entry.name}:{selector}" if selector else entry.name
    if listed := _LISTED.fullmatch(selector):
        if listed[1] not in entry.lists:
            there = f"only those of {', '.join(entry.lists)}" if entry.lists else "none"
            raise UsageError(f"{entry.name} has no image list of {listed[1]!r}, {there}")
        return _Source(name, entry, _openood(entry, root, listed[1]), listed=listed[1])
    if entry.parts is not None:
        return _Source(name, entry, _parts(entry, root, ordered, selector))
    if entry.generate is None:
        return _Source(name, entry, _groups(entry, root, ordered), selector)
    options = {} if entry.num_classes else keyword_options(entry.name, selector, entry.generate)
    generated = partial(_generated, entry=entry, options=options)
    return _Source(name, entry, [[(root, generated)]], selector if entry.num_classes else "")


def _locate_path(path: Path, root: Path, ordered: bool) -> _Source:
    if not os.path.exists(path):  # unlike Path.exists, no error for a name that is too long
        raise DataError(f"{path} does not exist")
    name = path_key(path)
    entry = DatasetEntry(name=name, title=str(path), source="", kind="")
    if path.is_dir():
        with reading(path):
            os.listdir(path)
        return _Source(name, entry, _groups_in([path], entry, ordered))
    files = (partial(_one_file, path=path, root=root), partial(_text_file, path=path))
    return _Source(name, entry, [[(path.parent, file)] for file in files])


def _parts(entry: DatasetEntry, root: Path, ordered: bool, selector: str) -> list[list[tuple[Path, Layout]]]:
    """Return the layouts of a set with options; if some are given, no other layout can be meant."""
    assert entry.parts is not None
    chosen: Layout = partial(entry.parts, **keyword_options(entry.name, selector, entry.parts))
    own = [(folder, chosen) for folder in _folders(entry, root)]
    if selector:
        return [own]
    folder = root / entry.name
    general: list[Layout] = [
        packed,
        image_list,
        partial(split_folder, kind=image_set.FOLDERS, lenient=ordered),
    ]
    return [own, [(folder, layout) for layout in general if folder.is_dir()], *_openood(entry, root)]


def _folders(entry: DatasetEntry, root: Path) -> list[Path]:
    """Return the folders in which the files of a set may be; those that do not exist are left out."""
    inner = [name for name in entry.folders if name != "."]
    places = dict.fromkeys((entry.name, *inner, *(f"{entry.name}/{name}" for name in inner)))
    # the listing distinguishes ODIN's Imagenet/ from imagenet/ on file systems that ignore case
    present = {path.name for path in root.iterdir()} if root.is_dir() else set()
    return [root / place for place in places if place.partition("/")[0] in present]


def _groups(entry: DatasetEntry, root: Path, ordered: bool) -> list[list[tuple[Path, Layout]]]:
    """Return the layouts in order: first those with separate files or folders for splits, then whole folders."""
    folders = _folders(entry, root)
    groups = _groups_in(folders, entry, ordered)
    if "." in entry.folders:
        groups[0] += [(root, layout) for layout in entry.layouts]
    if (path := _lone_file(entry.name, root)) is not None:
        groups.append([(root, partial(_one_file, path=path, root=root))])
    return [*groups, *_openood(entry, root)]


def _groups_in(folders: list[Path], entry: DatasetEntry, ordered: bool) -> list[list[tuple[Path, Layout]]]:
    """Return the layouts within folders; of an unknown kind, those of images are tried first, then texts."""
    groups: list[list[tuple[Path, Layout]]] = []
    # of each kind: layouts before and after those of the entry, and that of a folder without splits
    forms: tuple[tuple[FolderKind, list[Layout], list[Layout], Callable[..., Loader | None]], ...] = (
        (image_set.FOLDERS, [packed], [image_list], partial(whole_folder, kind=image_set.FOLDERS)),
        (text_files.FOLDERS, [], [text_files.split_file], text_files.class_folders),
        (audio_set.FOLDERS, [], [], partial(whole_folder, kind=audio_set.FOLDERS)),
    )
    for kind, first, then, whole in forms:
        if entry.kind not in ("", kind.title):
            continue
        divided = partial(split_folder, kind=kind, lenient=ordered)
        explicit: list[Layout] = [*first, *entry.layouts, *then, divided]
        groups.append([(folder, layout) for layout in explicit for folder in folders])
        groups.append([(folder, partial(whole, lenient=ordered)) for folder in folders])
    return groups


def _openood(entry: DatasetEntry, root: Path, folder: str = "") -> list[list[tuple[Path, Layout]]]:
    """Return the layout of the image list of a benchmark, by default that of the first."""
    folder = folder or next(iter(entry.lists), "")
    if not folder:
        return []
    return [[(root / BENCHMARK_LISTS / folder, partial(benchmark_list, name=entry.lists[folder]))]]


def _lone_file(name: str, root: Path) -> Path | None:
    """Find ``DIR/<name>.npz``, as downloaded by MedMNIST and Keras."""
    paths = (root / (name + suffix) for suffix in (".npz", ".NPZ"))
    return next((path for path in paths if os.path.isfile(path)), None)


def _loaders(source: _Source) -> tuple[dict[str, Loader], list[str]]:
    """Return the loader of each available split; if there is none, the problems found."""
    reasons = []
    for group in source.groups:
        further = {split for folder, layout in group if layout is packed for split in packed_splits(folder)}
        found: dict[str, Loader] = {}
        for split in dict.fromkeys((*SPLITS, *source.entry.splits, *sorted(further))):
            hits = []
            for folder, layout in group:
                try:
                    hits.append((layout, layout(folder, split)))
                except DataError as error:
                    reasons.append(str(error))
            available = [(layout, loader) for layout, loader in hits if loader is not None]
            if available:
                layout, found[split] = available[0]
                if len(available) > 1 and layout not in source.entry.layouts:
                    form = _FORMS.get(layout, "the first")
                    note = f"the split {split} exists in {len(available)} forms; {form} is read"
                    found[split] = noting(found[split], note)
        if found:
            return found, []
    return {}, reasons


def _generated(
    folder: Path, split: str, entry: DatasetEntry, options: Mapping[str, str | float]
) -> Loader | None:
    make = entry.generate
    assert make is not None
    if split not in entry.splits or any(
        split not in available_splits(part, folder) for part in entry.made_of
    ):
        return None
    return lambda: make(split, *(open_dataset(part, split, folder) for part in entry.made_of), **options)


def _one_file(folder: Path, split: str, path: Path, root: Path) -> Loader | None:
    suffix = path.suffix.lower()
    if suffix in (".npz", ".npy"):
        return packed_file(folder, split, path)
    if suffix not in LIST_SUFFIXES or split != "test":
        return None
    beside, root = folder.resolve(), root.resolve()
    listed = listed_file(path, (beside, root, *(root / name for name in BENCHMARK_ROOTS)))

    def load() -> InputSet:
        images = listed()
        elsewhere = images.root != beside
        return images.with_notes(*[f"paths in {path.name} are relative to {images.root}"] * elsewhere)

    return load


def _text_file(folder: Path, split: str, path: Path) -> Loader | None:
    return text_files.texts_of_file(path) if split == "test" else None


def _archive(source: _Source, root: Path) -> Path | None:
    """Find the archive of a set; the images of a list are not in it."""
    entry = source.entry
    if source.listed:
        return None
    stems = (entry.name, *(name for name in entry.folders if "/" not in name and name != "."))
    candidates = (root / (stem + suffix) for stem in stems for suffix in ARCHIVE_SUFFIXES)
    return next((path for path in candidates if path.is_file()), None)


def _missing_list(source: _Source, root: Path, reasons: list[str]) -> str:
    if reasons:
        return reasons[0]
    name = f"<split>_{source.entry.lists[source.listed]}.txt"
    where = root / BENCHMARK_LISTS / source.listed
    return f"{source.name} is not in {root}: put the image list {name} of its benchmark into {where}"


def _missing(entry: DatasetEntry, root: Path, reasons: list[str]) -> str:
    if not entry.source:
        return (
            reasons[0]
            if reasons
            else f"{entry.title} contains no images, texts, recordings, <split>.npz or image list"
        )
    if lacking := next((part for part in entry.made_of if not available_splits(part, root)), ""):
        return (
            f"{entry.name} is made of {' and '.join(entry.made_of)}; {_missing(get_entry(lacking), root, [])}"
        )
    hint = " (or add --download)" if entry.download or entry.files else ""
    found = f" ({reasons[0]})" if reasons else ""
    where = root / entry.name
    return f"{entry.name} is not in {root}{found}: get it from {entry.source} and put it into {where}/{hint}"
