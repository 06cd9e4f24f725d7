"""Decoding of image files of many formats, bit depths and colour spaces."""

from __future__ import annotations

__all__ = ["MAX_PIXELS", "Decoding", "likely_bits", "read_image", "read_values"]

import io
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image

from featood.data.suffixes import IMAGE_FORMATS
from featood.errors import DataError, UsageError, reading

FORMATS = tuple(IMAGE_FORMATS)
MAX_PIXELS = 89_478_485  # Pillow warns above this number; 256 MiB as RGB

DEPTHS = (8, 10, 12, 14)
SAMPLE = 64
BITS_PER_SAMPLE, PHOTOMETRIC, PLANAR = 258, 262, 284  # TIFF's tags
OTHER_BYTE = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Decoding:
    """Options for decoding files.

    Parameters
    ----------
    bits : int
        Depth of the values in 16-bit images, 8 to 16: ``2**bits - 1`` becomes 255.
    upright : bool
        Apply the EXIF orientation, unlike the loaders of torchvision and timm.
    """

    bits: int = 16
    upright: bool = True

    def __post_init__(self) -> None:
        if not 8 <= self.bits <= 16:
            raise UsageError(f"the depth of 16-bit images must be 8 to 16 bits, not {self.bits}")


def read_image(
    file: Path | bytes, decoding: Decoding = Decoding(), most_pixels: int = MAX_PIXELS
) -> np.ndarray:
    """Decode an image file, or its content, to grey or RGB; the format is recognised by content, not by suffix.

    8-bit images are converted by ``PIL.Image.convert``, as in the loaders of torchvision and timm: palettes, CMYK and
    other colour spaces become RGB, alpha is dropped, and the first frame of an animation is used. There are two
    differences from these loaders: the EXIF orientation is applied, and 16-bit grey is scaled to 8 bits,
    ``v * 255 / (2**bits - 1)`` rounded, whereas they clip values above 255. 16-bit colour keeps its high byte, as in
    these loaders, unless `bits` is smaller.

    Returns
    -------
    ndarray, uint8 [H, W] or [H, W, 3]

    Raises
    ------
    DataError
        If the file is missing, corrupt, floating-point, deeper than `bits`, or has over `most_pixels` pixels.
    """
    with reading(_name(file)), _opened(file, most_pixels) as image:
        if _is_deep(image) and (image.mode.startswith("I") or decoding.bits < 16):
            bits = min(decoding.bits, _stated_bits(image))
            values = _deep_values(file, image, decoding)
            if values.min() < 0 or values.max() > 65535:
                raise ValueError("32-bit pixels have no fixed range; convert to 8 bits")
            if values.max() >= 2**bits:
                raise ValueError(f"the value {values.max()} needs more than the stated {bits} bits")
            # white is zero: Pillow inverts such values with 8 bits, but not with 16
            if getattr(image, "tag_v2", {}).get(PHOTOMETRIC) == 0:
                values = 2**bits - 1 - values
            return np.rint(values * 255 / (2**bits - 1)).astype(np.uint8)
        return _to_uint8(_turned(image, decoding))


def read_values(path: Path) -> np.ndarray:
    """Decode the values of a mask; those of a palette are its indices.

    Returns
    -------
    ndarray, uint8 [H, W]

    Raises
    ------
    DataError
        If the file is missing or corrupt, or has several channels or more than 8 bits.
    """
    with reading(path), _opened(path) as image:
        if image.mode not in ("1", "L", "P"):
            raise ValueError(f"a mask has one channel of 8 bits, not {image.mode}")
        return np.array(image.convert("L") if image.mode == "1" else image)


def likely_bits(paths: Sequence[Path], sample: int = SAMPLE) -> int | None:
    """Estimate the depth of 16-bit images from a sample; used only for a hint to the user.

    Parameters
    ----------
    paths : sequence of Path
        The image files of a set; unreadable ones are ignored.
    sample : int
        Size of the sample, evenly spaced.

    Returns
    -------
    int or None
        8, 10, 12 or 14; None if the images are not 16-bit, state their depth, are black, or use all bits.
    """
    highest = 0
    for row in np.unique(np.linspace(0, len(paths) - 1, min(sample, len(paths))).astype(int)):
        with suppress(DataError), reading(paths[row]), _opened(paths[row]) as image:
            if _is_deep(image) and _stated_bits(image) == 16:
                highest = max(highest, int(_deep_values(paths[row], image, Decoding()).max()))
    return next((bits for bits in DEPTHS if 0 < highest < 2**bits), None)


def _name(file: Path | bytes) -> str:
    return "the image" if isinstance(file, bytes) else str(file)


def _opened(file: Path | bytes, most_pixels: int = MAX_PIXELS) -> Any:
    image = Image.open(io.BytesIO(file) if isinstance(file, bytes) else file, formats=FORMATS)
    if image.width * image.height > most_pixels:
        size = f"{image.width} x {image.height}"
        image.close()
        raise DataError(f"{_name(file)} has {size} pixels; {most_pixels} is the limit")
    return image


def _turned(image: Image.Image, decoding: Decoding) -> Image.Image:
    image.load()
    # ImageOps.exif_transpose fails if other entries of the metadata cannot be written back
    turn = TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1)) if decoding.upright else None
    return image if turn is None else image.transpose(turn)


def _to_uint8(image: Image.Image) -> np.ndarray:
    if image.mode == "F":
        raise ValueError("floating-point pixels have no fixed range; convert to 8 bits")
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")  # converting to RGB directly causes a warning for palettes with alpha
    return np.array(image.convert("L" if image.mode in ("1", "L", "LA", "La") else "RGB"))


def _raw_mode(image: Any) -> str:
    """Return Pillow's name of the layout of the stored pixels; empty if the decoder handles it."""
    if not image.tile:
        return ""
    arguments = image.tile[0][3]
    name = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return name if isinstance(name, str) else ""


def _is_deep(image: Any) -> bool:
    if image.mode.startswith("I"):
        return True
    tags = getattr(image, "tag_v2", {})
    deep = _raw_mode(image).endswith((";16B", ";16L", ";16N"))
    if not deep and image.mode != "F" and max(tags.get(BITS_PER_SAMPLE, (8,))) > 8:
        raise ValueError("Pillow misreads 16-bit colour in separate planes; convert to 8 bits")
    return deep


def _stated_bits(image: Any) -> int:
    return min((16, *getattr(image, "tag_v2", {}).get(BITS_PER_SAMPLE, ())))


def _deep_values(file: Path | bytes, image: Any, decoding: Decoding) -> np.ndarray:
    """Return the stored values as int64 [H, W] or [H, W, 3]."""
    if image.mode.startswith("I"):
        return np.asarray(_turned(image, decoding)).astype(np.int64)
    # Pillow keeps only the high byte of 16-bit colour; reading in the other byte order gives the low byte.
    layout, _, order = _raw_mode(image).rpartition(";16")
    with _opened(file) as again:
        planes = getattr(again, "tag_v2", {}).get(PLANAR, 1)
        if layout not in ("RGB", "RGBA", "RGBX", "LA") or planes != 1:
            raise ValueError("Pillow keeps only the high byte of such 16-bit colour; convert to 8 bits")
        swapped = "RGBA" if layout == "LA" else f"{layout};16{OTHER_BYTE[order]}"
        again.tile = [_with_raw_mode(tile, swapped) for tile in again.tile]
        low = np.asarray(_turned(again, decoding))
    low = low[..., 1:2] if layout == "LA" else low[..., :3]
    return np.asarray(_turned(image, decoding))[..., :3].astype(np.int64) * 256 + low


def _with_raw_mode(tile: Any, name: str) -> Any:
    arguments = (name, *tile[3][1:]) if isinstance(tile[3], tuple) else name
    return type(tile)._make((*tile[:3], arguments)) if hasattr(tile, "_make") else (*tile[:3], arguments)
