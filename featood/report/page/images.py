"""The section of the page with images, their masks and their score maps."""

from __future__ import annotations

__all__ = ["ImageRow", "ScoreMap", "ScoredImages", "scored_images"]

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from featood.metrics import auroc
from featood.metrics.dense import OUTLIER
from featood.report.score_images import colour_limits, mask_colours, score_colours

HEADS = 4
"""Largest number of heads whose maps are shown."""
IMAGES = 4
"""Number of images that are shown as the worst, and as the best."""
SIDE = 240
"""Largest width and height of a picture."""


class ScoreMap(NamedTuple):
    """The colour scale of a head."""

    head: str
    low: float
    """Score with the first colour; lower ones have it, too."""
    high: float
    """Score with the last colour."""


class ImageRow(NamedTuple):
    """An image with its pictures."""

    name: str
    auroc: float
    """Of the pixels of this image, by the first head."""
    pictures: list[str]
    """WebP files in base64: the image, its mask, and the scores of each head."""


class ScoredImages(NamedTuple):
    """What the section shows."""

    maps: list[ScoreMap]
    """The heads, the best first."""
    groups: dict[str, list[ImageRow]]
    """The worst images by their title, and the best ones."""
    ranked: int
    """Number of images with pixels of both kinds, from which these are chosen."""
    ramp: str
    """The colours from low to high, a WebP file of one row in base64."""


def scored_images(
    maps: Mapping[str, Sequence[np.ndarray]],
    masks: Sequence[np.ndarray],
    ids: Sequence[str],
    read: Callable[[int], np.ndarray],
) -> ScoredImages | None:
    """Choose the images in which the first head ranks the pixels worst and best, and draw them.

    Parameters
    ----------
    maps : mapping of str to sequence of array
        Scores ``[H, W]`` of each image by head, the best head first; the first four are shown.
    masks : sequence of array
        Mask ``[H, W]`` of each image, see :mod:`featood.metrics.dense`.
    ids : sequence of str
        Names of the images.
    read : callable
        Returns an image, uint8 ``[H, W]`` or ``[H, W, 3]``, by its number.

    Returns
    -------
    ScoredImages or None
        None if no image has both in-distribution and out-of-distribution pixels.
    """
    heads = list(maps)[:HEADS]
    found = dict(_by_image(maps[heads[0]], masks))
    if not found:
        return None
    order = sorted(found, key=lambda number: (found[number], number))
    worst = order[: min(IMAGES, -(-len(order) // 2))]
    best = order[len(worst) :][: -IMAGES - 1 : -1]
    scales = [ScoreMap(head, *colour_limits(maps[head])) for head in heads]

    def row(number: int) -> ImageRow:
        drawn = [score_colours(maps[scale.head][number], (scale.low, scale.high)) for scale in scales]
        pictures = [_picture(one) for one in (read(number), mask_colours(masks[number]), *drawn)]
        return ImageRow(ids[number], found[number], pictures)

    groups = {"worst": [row(number) for number in worst], "best": [row(number) for number in best]}
    ramp = score_colours(np.linspace(0, 1, SIDE)[None], (0.0, 1.0))
    return ScoredImages(
        scales, {title: rows for title, rows in groups.items() if rows}, len(order), _picture(ramp)
    )


def _by_image(maps: Sequence[np.ndarray], masks: Sequence[np.ndarray]) -> list[tuple[int, float]]:
    """Return number and AUROC of each image with pixels of both kinds."""
    found = []
    for number, (scores, mask) in enumerate(zip(maps, masks, strict=True)):
        known, unknown = scores[mask >= 0], scores[mask == OUTLIER]
        if len(known) and len(unknown):
            found.append((number, auroc(known, unknown)))
    return found


def _picture(values: np.ndarray) -> str:
    image = Image.fromarray(values).convert("RGB")
    image.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=75)
    return base64.b64encode(buffer.getvalue()).decode()
