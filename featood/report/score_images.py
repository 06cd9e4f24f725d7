"""Score maps as pictures."""

from __future__ import annotations

__all__ = ["colour_limits", "mask_colours", "score_colours", "score_picture", "write_score_pictures"]

import io
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from featood.cache.feature_cache import slug
from featood.metrics.dense import IGNORED, OUTLIER
from featood.report.files import replacing

COLOURS = "magma"
"""Colour map of matplotlib, from dark for low scores to light for high ones."""
SHOWN = [0.005, 0.995]
"""Quantiles of all scores that have the first and the last colour."""
SAMPLE = 1_000_000
"""Largest number of scores from which these quantiles are computed, evenly spaced in each map."""
GAP = 4


def score_picture(
    image: np.ndarray, mask: np.ndarray, scores: np.ndarray, limits: tuple[float, float]
) -> np.ndarray:
    """Draw an image, its mask and its scores side by side, see `mask_colours` and `score_colours`.

    Parameters
    ----------
    image : array of uint8, shape [H, W] or [H, W, 3]
    mask : array of shape [H, W]
        See :mod:`featood.metrics.dense`.
    scores : array of shape [H, W]
        Higher = more out-of-distribution = lighter.
    limits : (float, float)
        Scores with the first and the last colour; others are clipped.

    Returns
    -------
    ndarray of uint8, shape [H, 3 W + 8, 3]
    """
    panels = [_rgb(image), mask_colours(mask), score_colours(scores, limits)]
    gap = np.full((len(mask), GAP, 3), 255, np.uint8)
    return np.concatenate([panels[0], gap, panels[1], gap, panels[2]], 1)


def mask_colours(mask: np.ndarray) -> np.ndarray:
    """Draw a mask ``[H, W]`` as uint8 ``[H, W, 3]``: out-of-distribution is white, ignored grey, the rest black."""
    return _rgb(np.select([mask == OUTLIER, mask == IGNORED], [255, 128], 0).astype(np.uint8))


def score_colours(scores: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """Draw scores ``[H, W]`` as uint8 ``[H, W, 3]``, lighter = more out-of-distribution; see `score_picture`."""
    from matplotlib import colormaps

    low, high = limits
    shares = np.clip((scores - low) / (high - low if high > low else 1), 0, 1)
    return colormaps[COLOURS](shares, bytes=True)[..., :3]


def colour_limits(maps: Sequence[np.ndarray]) -> tuple[float, float]:
    """Return the scores with the first and the last colour, from maps that are read one after the other."""
    each = max(SAMPLE // max(len(maps), 1), 1)
    shown = [scores.ravel()[:: -(-scores.size // each)].copy() for scores in maps]
    low, high = np.quantile(np.concatenate(shown), SHOWN)
    return float(low), float(high)


def write_score_pictures(
    folder: Path, ids: Sequence[str], images: Iterable[np.ndarray], masks: Sequence[np.ndarray],
    maps: Sequence[np.ndarray],
) -> tuple[float, float]:  # fmt: skip
    """Write a PNG file for each image, ``00000-NAME.png``, with the same colours in all of them.

    Parameters
    ----------
    folder : Path
        Where the files are written.
    ids : sequence of str
        Names of the images, of which the last component is in the name of the file.
    images, masks, maps
        See :func:`score_picture`.

    Returns
    -------
    (float, float)
        Scores with the first and the last colour.
    """
    limits = colour_limits(maps)
    for number, (name, image, mask, scores) in enumerate(zip(ids, images, masks, maps, strict=True)):
        buffer = io.BytesIO()
        Image.fromarray(score_picture(image, mask, scores, limits)).save(buffer, "PNG")
        with replacing(folder / f"{number:05d}-{slug(PurePosixPath(name).stem)}.png") as file:
            file.write(buffer.getvalue())
    return limits


def _rgb(image: np.ndarray) -> np.ndarray:
    return image if image.ndim == 3 else np.repeat(image[..., None], 3, 2)
