"""Objects of images in the layout of COCO: annotations with polygons or run lengths, and the images beside them."""

from __future__ import annotations

__all__ = ["CocoObjects", "CutOut", "WrongSegmentation", "open_coco", "polygon_mask", "run_length_mask"]

import dataclasses
import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from featood.data.images.reading import MAX_PIXELS, read_image
from featood.errors import DataError, UsageError
from featood.records import record_problem, whole

SCHEMA = {
    "images": [{"id": (int, str), "file_name": str, "height": whole(1), "width": whole(1), ...: object}],
    "annotations": [
        {
            "image_id": (int, str),
            "category_id": (int, str),
            "segmentation": (list, dict),
            "iscrowd?": whole(0, 1),
            "area?": (int, float),
            ...: object,
        }
    ],
    "categories": [{"id": (int, str), "name": str, ...: object}],
    ...: object,
}


class WrongSegmentation(ValueError):
    """A segmentation is no mask of its image; the message continues the name of its annotation."""


class CutOut(NamedTuple):
    """An object without its surroundings."""

    pixels: np.ndarray
    """uint8 ``[h, w, 3]``, the bounding box of the object."""
    mask: np.ndarray
    """bool ``[h, w]``, its pixels."""
    category: str


@dataclasses.dataclass(frozen=True, eq=False)
class CocoObjects:
    """The objects of an annotation file, which are read when they are used.

    Attributes
    ----------
    annotations : Path
        The file.
    root : Path
        Folder of the images.
    objects : sequence of (int, mapping, object, str)
        Number in the file, record of the image, segmentation and category of each object.
    sha256 : str
        Digest of the file.
    notes : tuple of str
        What was left out.
    """

    annotations: Path
    root: Path
    objects: Sequence[tuple[int, Mapping[str, Any], Any, str]]
    sha256: str
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.objects)

    def __getitem__(self, i: int) -> CutOut:
        """Read an object.

        Raises
        ------
        DataError
            If its segmentation is wrong, or its image is missing or of another size.
        """
        number, record, segmentation, category = self.objects[i]
        shape = record["height"], record["width"]
        where = f"{self.annotations}: annotation {number}"
        mask = _mask(segmentation, shape, where)
        if not mask.any():
            raise DataError(f"{where} has no pixels; remove it from the file")
        pixels = read_image(self.root / record["file_name"])
        if pixels.shape[:2] != shape:
            raise DataError(
                f"{self.root / record['file_name']} has {pixels.shape[:2]} pixels, but {shape} in "
                f"{self.annotations.name}; give the images that were annotated"
            )
        rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
        box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        pixels = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, 2)
        return CutOut(pixels[box], mask[box], category)


def open_coco(
    annotations: str | Path,
    images: str | Path | None = None,
    exclude: Collection[str] = (),
    smallest: float = 100,
) -> CocoObjects:
    """Open the objects of an annotation file of COCO.

    Annotations of crowds are left out, as they are no single objects; a note says how many.

    Parameters
    ----------
    annotations : path
        A file such as ``coco/annotations/instances_val2017.json``.
    images : path, optional
        Folder of its images; by default the folder next to that of the file which its name ends in, ``coco/val2017``.
    exclude : collection of str
        Categories to leave out, such as those that are in-distribution.
    smallest : float
        Least area of an object in pixels, if the file has areas.

    Raises
    ------
    DataError
        If the file is missing or not of this form, or no objects are left.
    UsageError
        If a category to leave out does not exist.
    """
    path = Path(annotations)
    try:
        content = path.read_bytes()
        record = json.loads(content)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, RecursionError):
        raise DataError(f"{path} is not JSON; give annotations of COCO, instances_NAME.json") from None
    field, problem = record_problem(record, SCHEMA)
    if problem:
        raise DataError(f"{path}: {field[:80]} {problem}; give annotations of COCO, instances_NAME.json")
    root = path.parent.parent / path.stem.removeprefix("instances_") if images is None else Path(images)
    if not root.is_dir():
        raise DataError(f"there is no folder {root} of the images of {path.name}; name it")
    names = {one["id"]: one["name"] for one in record["categories"]}
    if unknown := sorted(set(exclude) - set(names.values())):
        raise UsageError(f"{path.name} has no category {unknown[0]!r}, only {', '.join(names.values())}")
    pictures = {one["id"]: one for one in record["images"]}
    for one in pictures.values():
        parts = PurePosixPath(one["file_name"])
        if parts.is_absolute() or ".." in parts.parts or "\\" in one["file_name"]:
            raise DataError(
                f"{path}: the image {one['file_name']!r} is not inside a folder; correct the file"
            )
    objects, crowds, small = [], 0, 0
    for number, one in enumerate(record["annotations"]):
        for key, known in (("image_id", pictures), ("category_id", names)):
            if one[key] not in known:
                raise DataError(
                    f"{path}: annotation {number} has the {key} {one[key]}, which is not in the file"
                )
        if one.get("iscrowd"):
            crowds += 1
        elif one.get("area", smallest) < smallest:
            small += 1
        elif names[one["category_id"]] not in exclude:
            category = names[one["category_id"]]
            objects.append((number, pictures[one["image_id"]], one["segmentation"], category))
    if not objects:
        raise DataError(
            f"{path} has no objects to paste; of {len(record['annotations'])}, {crowds} are crowds, and {small} small"
        )
    notes = [f"annotations of crowds are left out: {crowds}"] * bool(crowds)
    notes += [f"objects of fewer than {smallest:g} pixels are left out: {small}"] * bool(small)
    return CocoObjects(path, root, objects, hashlib.sha256(content).hexdigest(), tuple(notes))


def polygon_mask(polygons: Sequence[Sequence[float]], shape: tuple[int, int]) -> np.ndarray:
    """Return the pixels whose centres are inside polygons ``[x0, y0, x1, y1, ...]``, as bool ``[H, W]``.

    Raises
    ------
    WrongSegmentation
        If a polygon has fewer than three corners, or an odd number of finite numbers.
    """
    inside = np.zeros(shape, bool)
    for polygon in polygons:
        corners = np.asarray(polygon, float)
        if corners.ndim != 1 or len(corners) % 2 or len(corners) < 6 or not np.isfinite(corners).all():
            raise WrongSegmentation("has a polygon that is no list x, y, x, y, ... of at least three corners")
        inside |= _filled(corners.reshape(-1, 2), shape)
    return inside


def _filled(corners: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return the pixels whose centres are inside a polygon ``[n, 2]``: an odd number of edges is on their left."""
    crossings = np.zeros((shape[0], shape[1] + 1), bool)
    centres = np.arange(shape[0]) + 0.5
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, 0), strict=True):
        rows = np.flatnonzero((centres >= min(y0, y1)) & (centres < max(y0, y1)))
        x = x0 + (centres[rows] - y0) * (x1 - x0) / (y1 - y0) if len(rows) else np.empty(0)
        crossings[rows, np.clip(np.ceil(x - 0.5), 0, shape[1]).astype(int)] ^= True
    return np.logical_xor.accumulate(crossings, 1)[:, :-1]


def run_length_mask(counts: str | Sequence[int], shape: tuple[int, int]) -> np.ndarray:
    """Return the mask, bool ``[H, W]``, of run lengths in columns, which begin with the pixels outside.

    Parameters
    ----------
    counts : str or sequence of int
        The lengths, or their text: each is written as its difference from the last but one, in groups of five bits
        with the lowest first, as characters from "0" on, of which the sixth bit tells that the number continues.
    shape : (int, int)
        Height and width.

    Raises
    ------
    WrongSegmentation
        If a length is negative, or their sum is not the number of pixels.
    """
    lengths = _decoded(counts) if isinstance(counts, str) else list(counts)
    whole_numbers = all(isinstance(one, int) and one >= 0 for one in lengths)
    if not whole_numbers or sum(lengths) != shape[0] * shape[1]:
        raise WrongSegmentation(f"has run lengths that do not add up to {shape[0]} x {shape[1]} pixels")
    values = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    return values.reshape(shape, order="F")


def _decoded(text: str) -> list[int]:
    lengths: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise WrongSegmentation("has a text of run lengths with other characters than those of COCO")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        value -= (1 << shift) if bits & 16 else 0
        lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
        value = shift = 0
    return lengths


def _mask(segmentation: Any, shape: tuple[int, int], where: str) -> np.ndarray:
    if shape[0] * shape[1] > MAX_PIXELS:
        raise DataError(
            f"{where} is in an image of {shape[0]} x {shape[1]} pixels; {MAX_PIXELS} is the limit"
        )
    try:
        if isinstance(segmentation, list):
            return polygon_mask(segmentation, shape)
        if list(segmentation["size"]) != list(shape):
            raise WrongSegmentation(
                f"has run lengths for {segmentation['size']} pixels, but its image has {list(shape)}"
            )
        return run_length_mask(segmentation["counts"], shape)
    except WrongSegmentation as error:
        reason = str(error)
    except (ValueError, TypeError, KeyError):
        reason = "has a wrong segmentation"
    raise DataError(f"{where} {reason}; correct or remove it")
