"""Decoding one image file, whatever odd thing it turns out to be."""

from __future__ import annotations

__all__ = ["SUFFIXES", "read_image", "reading"]

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from featood.errors import DataError

SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".pgm", ".ppm", ".pnm", ".tif", ".tiff", ".webp")
)
# No others: Pillow's EPS reader starts a program, for one.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
MAX_PIXELS = 89_478_485  # Pillow warns from here on; 256 MiB as RGB


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever a decoder raises on a bad file into a one-line DataError that names ``path``."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"{path} cannot be read: {reason}") from error


def read_image(path: Path) -> np.ndarray:
    """Decode an image file to grey or RGB.

    The EXIF orientation is applied; palettes, CMYK and other colour spaces become RGB; alpha is
    dropped; 16-bit grey is scaled to 8 bits; of an animation the first frame counts.

    Returns
    -------
    ndarray, uint8 [H, W] or [H, W, 3]

    Raises
    ------
    DataError
        If the file is missing, corrupt, floating-point, or over ``MAX_PIXELS`` pixels.
    """
    with reading(path), Image.open(path, formats=FORMATS) as image:
        if image.width * image.height > MAX_PIXELS:
            raise DataError(f"{path} has {image.width} x {image.height} pixels; {MAX_PIXELS} is the limit")
        return _to_uint8(ImageOps.exif_transpose(image))


def _to_uint8(image: Image.Image) -> np.ndarray:
    if image.mode == "F":
        raise ValueError("floating-point pixels have no fixed range; convert to 8 bits")
    if image.mode.startswith("I"):
        deep = np.asarray(image).astype(np.int64)
        if deep.min() < 0 or deep.max() > 65535:
            raise ValueError("32-bit pixels have no fixed range; convert to 8 bits")
        return np.rint(deep / 257).astype(np.uint8)
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")  # straight to RGB, Pillow warns about palettes with alpha
    return np.array(image.convert("L" if image.mode in ("1", "L", "LA", "La") else "RGB"))
