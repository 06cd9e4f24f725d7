"""Images in any form as 8-bit pixels."""

from __future__ import annotations

__all__ = ["as_pixels"]

from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from featood.data import Decoding
from featood.data.images.reading import read_image
from featood.errors import DataError


def as_pixels(image: Any, decoding: Decoding) -> np.ndarray:
    """Return an image as uint8 ``[H, W]`` or ``[H, W, 3]``.

    Parameters
    ----------
    image
        A path, the content of a file, a PIL image, an array uint8 ``[H, W]`` or ``[H, W, 3]``, or a tensor uint8
        ``[C, H, W]``.
    decoding : Decoding
        How files are decoded.

    Raises
    ------
    DataError
        If it is none of these, or cannot be read.
    """
    if isinstance(image, bytes):
        return read_image(image, decoding)
    if isinstance(image, str | Path):
        path = Path(image)
        if not path.is_file():
            raise DataError(f"{path} is missing, or not a file")
        return read_image(path, decoding)
    if isinstance(image, Tensor):
        image = image.detach().cpu().numpy()
        image = np.moveaxis(image, 0, -1) if image.ndim == 3 else image
    elif hasattr(image, "convert"):  # a PIL image
        image = np.asarray(image.convert("L" if image.mode in ("1", "L") else "RGB"))
    values = np.asarray(image)
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[:, :, 0]
    if values.dtype != np.uint8 or values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[2] != 3):
        raise DataError(
            f"an image is a path, a PIL image, or 8-bit values [H, W] or [H, W, 3], not {values.dtype} "
            f"{list(values.shape)}"
        )
    return values
