"""Generated images as a picture."""

from __future__ import annotations

__all__ = ["picture_of", "pictures_of", "png_of"]

import io
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from featood.energies.sgld import frozen
from featood.extractors.models.between import PAIRS
from featood.extractors.models.model import Model
from featood.extractors.transform import Transform


def pictures_of(
    model: Model, net: Any, images: Tensor, transform: Transform, seed: int
) -> dict[str, np.ndarray]:
    """Return pictures of what a network generates, by what they show; none if it does not.

    Parameters
    ----------
    model : Model
        Model of the network.
    net : Module
        The network.
    images : Tensor
        Normalised images ``[N, C, H, W]``; the first ones are interpolated.
    transform : Transform
        Their transform.
    seed : int
        Of all draws.
    """
    pairs = images[: min(2 * PAIRS, len(images) // 2 * 2)] if len(images) > 1 else torch.cat([images, images])
    with frozen(net), torch.no_grad():
        made = model.pictures(net, pairs, torch.Generator().manual_seed(seed))
    return {name: picture_of(shown, transform) for name, shown in made.items()}


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
