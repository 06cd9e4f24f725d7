"""Small pictures of rows, read again from the images from which they were extracted."""

from __future__ import annotations

__all__ = ["SIDE", "thumbnails"]

import io
from collections.abc import Sequence

from featood.cache.feature_set import FeatureSet
from featood.errors import DataError
from featood.pipeline.extraction_like import unchanged_images

SIDE = 48
"""Largest width and height in pixels."""


def thumbnails(features: FeatureSet, rows: Sequence[int], data_dir: str | None = None) -> dict[int, bytes]:
    """Return WebP files by row.

    Parameters
    ----------
    features : FeatureSet
        A set from the cache.
    rows : sequence of int
        Rows of the set.
    data_dir : str, optional
        Folder of the images; by default that of the extraction.

    Returns
    -------
    dict of int to bytes
        Without rows whose image cannot be read any more; empty if the set does not come from images, or they have
        changed.
    """
    from PIL import Image

    images = unchanged_images(features, data_dir)
    if images is None or features.ids is None:
        return {}
    ids = features.ids[:]
    places = {name: place for place, name in enumerate(images.ids)}
    found = {}
    for row in rows:
        try:
            pixels = images.read(places[ids[row]])
        except (DataError, KeyError):
            continue
        picture = Image.fromarray(pixels)
        picture.thumbnail((SIDE, SIDE))
        buffer = io.BytesIO()
        picture.convert("RGB").save(buffer, "WEBP", quality=70)
        found[row] = buffer.getvalue()
    return found
