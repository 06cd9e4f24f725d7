"""Generated images as a picture."""

from __future__ import annotations

__all__ = ["SHOWN", "picture_of", "png_of"]

import io
import math

import numpy as np
import torch
from torch import Tensor

from featood.extractors.transform import Transform

SHOWN = 64
"""Images in a picture."""


def picture_of(images: Tensor, transform: Transform) -> np.ndarray:
    """Return normalised images ``[N, C, H, W]`` in a square, row by row, as uint8 ``[height, width, 3]``."""
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (transform.mean, transform.std))
    scaled = (images.detach().float().cpu() * std + mean).nan_to_num().clamp(0, 1)
    pixels = (255 * scaled).round().to(torch.uint8).movedim(1, 3).numpy()
    count, height, width, channels = pixels.shape
    columns = math.isqrt(max(count - 1, 0)) + 1
    rows = -(-count // columns)
    grid = np.full((rows * columns, height + 2, width + 2, 3), 255, np.uint8)
    grid[:count, 1:-1, 1:-1] = pixels if channels == 3 else pixels[..., :1]
    return (
        grid.reshape(rows, columns, height + 2, width + 2, 3)
        .swapaxes(1, 2)
        .reshape(-1, columns * (width + 2), 3)
    )


def png_of(picture: np.ndarray) -> bytes:
    """Return a picture as a PNG file."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(picture).save(file, "png")
    return file.getvalue()
