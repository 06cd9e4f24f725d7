"""Known sets of images with masks, and the layout of their files."""

from __future__ import annotations

__all__ = ["LAYOUTS", "Layout", "open_masked"]

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path

from featood.data.images.image_set import ImageSet
from featood.data.masked.masked_set import MaskedSet, Meaning
from featood.data.naming import checked_name, default_data_dir, is_path, path_key
from featood.data.scanning import Scan, scan
from featood.data.suffixes import IMAGE_SUFFIXES
from featood.errors import DataError, UsageError

BINARY = Meaning({0: 0}, outliers=[1], ignored=[255])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """The files of a set: an image and a mask belong together if the groups of their patterns are equal.

    Attributes
    ----------
    title, source : str
        Printed name, and origin of the files.
    images, masks : mapping of str to str
        For each split, a pattern of the paths of the images, and of the masks; without the latter, all pixels are
        in-distribution.
    meaning : Meaning
        Meaning of the values of the masks.
    folders : tuple of str
        Folders of the files in the data directory, besides one named like the set.
    classes : tuple of str
        Names of the classes.
    normal : str
        Pattern of the groups of images that have no mask because all of their pixels are in-distribution; other images
        without a mask are left out.
    parts : bool
        Whether the files are in folders of parts, one of which a name selects: ``mvtec-ad:bottle``.
    """

    title: str
    source: str
    images: Mapping[str, str]
    masks: Mapping[str, str]
    meaning: Meaning = BINARY
    folders: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    normal: str = "(?!)"
    parts: bool = False


def _track(name: str, title: str) -> Layout:
    return Layout(
        title=title,
        source="https://segmentmeifyoucan.com",
        images={"test": r"images/([^/]+)\.\w+"},
        masks={"test": r"labels_masks/([^/]+)_labels_semantic\.png"},
        folders=(f"dataset_{name}", f"SMIYC/dataset_{name}"),
    )


_SPLITS = ("train", "val", "test")
LAYOUTS = {
    "street-hazards": Layout(
        title="StreetHazards",
        source="https://github.com/hendrycks/anomaly-seg",
        images={
            "train": r"train/images/training/(.+)\.png",
            "val": r"train/images/validation/(.+)\.png",
            "test": r"test/images/test/(.+)\.png",
        },
        masks={
            "train": r"train/annotations/training/(.+)\.png",
            "val": r"train/annotations/validation/(.+)\.png",
            "test": r"test/annotations/test/(.+)\.png",
        },
        meaning=Meaning(
            {value: value - 1 for value in range(1, 14)}, outliers=[14], ignored=[0, 255], by_class=True
        ),
        folders=("StreetHazards", "streethazards"),
        classes=(
            "unlabeled", "building", "fence", "other", "pedestrian", "pole", "road line", "road", "sidewalk",
            "vegetation", "car", "wall", "traffic sign",
        ),
    ),
    "lost-and-found": Layout(
        title="Lost and Found",
        source="http://www.6d-vision.com/lostandfounddataset",
        images={split: rf"(?:.*/)?leftImg8bit/{split}/(.+)_leftImg8bit\.png" for split in ("train", "test")},
        masks={split: rf"(?:.*/)?gtCoarse/{split}/(.+)_gtCoarse_labelIds\.png" for split in ("train", "test")},
        meaning=Meaning({1: 0}, outliers=range(2, 44), ignored=[0, 255]),
        folders=("LostAndFound", "dataset_LostAndFound"),
    ),
    "fishyscapes": Layout(
        title="Fishyscapes Lost and Found (validation)",
        source="https://fishyscapes.com (the images are those of Lost and Found)",
        images={"test": r"(?:.*/)?leftImg8bit/(?:train|test)/[^/]+/(.+)_leftImg8bit\.png"},
        masks={"test": r"(?:.*/)?\d{4}_(.+)_labels\.png"},
        folders=("Fishyscapes",),
    ),
    "road-anomaly": Layout(
        title="Road Anomaly",
        source="https://www.epfl.ch/labs/cvlab/data/road-anomaly",
        images={"test": r"frames/([^/]+)\.\w+"},
        masks={"test": r"frames/([^/]+)\.labels/labels_semantic\.png"},
        meaning=Meaning({0: 0, 1: 0}, outliers=[2]),
        folders=("RoadAnomaly/RoadAnomaly_jpg", "RoadAnomaly", "RoadAnomaly_jpg"),
    ),
    "road-anomaly21": _track("AnomalyTrack", "SegmentMeIfYouCan, RoadAnomaly21"),
    "road-obstacle21": _track("ObstacleTrack", "SegmentMeIfYouCan, RoadObstacle21"),
    "mvtec-ad": Layout(
        title="MVTec AD",
        source="https://www.mvtec.com/company/research/datasets/mvtec-ad",
        images={"train": r"train/(good/.+)\.png", "test": r"test/(.+)\.png"},
        masks={"test": r"ground_truth/(.+)_mask\.png"},
        meaning=Meaning({0: 0}, outliers=[255]),
        folders=("MVTecAD", "mvtec_anomaly_detection", "mvtech-ad"),
        normal="good/.*",
        parts=True,
    ),
}  # fmt: skip
FOLDER = Layout(
    title="a folder of images and masks",
    source="",
    images={split: rf"{split}/images/(.+)\.\w+" for split in _SPLITS},
    masks={split: rf"{split}/masks/(.+)\.\w+" for split in _SPLITS},
    meaning=Meaning({value: value for value in range(254)}, outliers=[254], ignored=[255], by_class=True),
)
"""Masks of a folder: values up to 253 are classes, 254 is out-of-distribution, and 255 ignored."""


def open_masked(name: str, split: str, data_dir: str | Path | None = None) -> MaskedSet:
    """Open a split of a set of images with masks.

    Parameters
    ----------
    name : str
        A key of `LAYOUTS`, ``mvtec-ad:CATEGORY``, or the path of a folder with ``SPLIT/images/`` and
        ``SPLIT/masks/`` (see `FOLDER`); an image and its mask have the same name there.
    split : str
        ``train``, ``val`` or ``test``.
    data_dir : path, optional
        Folder of the sets; by default :func:`featood.data.default_data_dir`.

    Returns
    -------
    MaskedSet
        The images in the order of their paths; notes count images without a mask and masks without an image, which are
        left out.

    Raises
    ------
    UsageError
        If the name is unknown.
    DataError
        If the set has no images in that split, or two files of one image.
    """
    name = checked_name(name)
    folder, layout = _find(name, default_data_dir() if data_dir is None else Path(data_dir))
    if split not in layout.images:
        raise DataError(f"{name} has no split {split!r}, only {', '.join(layout.images)}")
    paths = sorted(scan(folder, Scan(), IMAGE_SUFFIXES)) if folder.is_dir() else []
    masks = _by_key(layout.masks.get(split, "(?!)"), paths)
    used = set(masks.values())
    images = {key: path for key, path in _by_key(layout.images[split], paths).items() if path not in used}
    normal = re.compile(layout.normal)
    free = not masks and split not in layout.masks
    chosen = [key for key in images if free or key in masks or normal.fullmatch(key)]
    if not chosen:
        source = f"; get them from {layout.source}" if layout.source else ""
        found = f"{len(images)} images, and {len(masks)} masks" if images or masks else "no images"
        raise DataError(f"{folder} has {found} of the split {split} of {layout.title}{source}")
    without = {
        "images without a mask": len(images) - len(chosen),
        "masks without an image": len(masks.keys() - images.keys()),
    }
    notes = [f"{what} are left out: {count}" for what, count in without.items() if count]
    if layout is not FOLDER:
        notes.append(
            f"the reader of {layout.title} was tested on small files of this layout only: check the number of images"
        )
    ids = tuple(images[key] for key in chosen)
    name = path_key(folder) if layout is FOLDER else name
    return MaskedSet(
        ImageSet(name=name, split=split, ids=ids, classes=layout.classes, root=folder, notes=tuple(notes)),
        tuple(masks.get(key, "") for key in chosen),
        layout.meaning,
    )


def _find(name: str, root: Path) -> tuple[Path, Layout]:
    """Return the folder of a set, and its layout."""
    if is_path(name):
        return Path(name), FOLDER
    base, _, part = name.partition(":")
    if base not in LAYOUTS:
        raise UsageError(
            f"there is no set of images with masks '{name}', only {', '.join(LAYOUTS)}; a folder is written as a path, "
            "such as ./scenes"
        )
    layout = LAYOUTS[base]
    if bool(part) != layout.parts or "/" in part or part.startswith("."):
        raise UsageError(
            f"name a category of {layout.title}: {base}:bottle" if layout.parts else f"{base} has no parts"
        )
    places = [root / folder / part for folder in (base, *layout.folders)]
    return next((place for place in places if place.is_dir()), places[0]), layout


def _by_key(pattern: str, paths: list[str]) -> dict[str, str]:
    """Return the paths that match a pattern, by their group.

    Raises
    ------
    DataError
        If two paths have the same group.
    """
    found: dict[str, str] = {}
    for path in paths:
        match = re.fullmatch(pattern, path)
        if match and (other := found.setdefault(match[1], path)) != path:
            raise DataError(
                f"{other} and {path} are files of the same image, '{match[1]}'; remove one of them"
            )
    return found
