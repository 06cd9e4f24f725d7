"""Lossless conversion of arrays of images to uint8 pixels."""

from __future__ import annotations

__all__ = ["as_pixels"]

import numpy as np

from featood.errors import DataError

ROWS = 1024


def as_pixels(values: np.ndarray, where: object) -> tuple[np.ndarray, tuple[str, ...]]:
    """Convert an array of images to pixels, without loss.

    Parameters
    ----------
    values : ndarray
        ``[N, H, W]``, or with 1, 3 or 4 channels ``[N, H, W, C]`` or ``[N, C, H, W]``; uint8, other integers from
        0 to 255, or floats that are multiples of 1/255 in [0, 1] or whole from 0 to 255.
    where : object
        Origin of the values for errors.

    Returns
    -------
    pixels : ndarray, uint8 [N, H, W] or [N, H, W, 3]
    notes : tuple of str
        One line for each conversion.

    Raises
    ------
    DataError
        If shape or values are different; the message says what to do.
    """
    notes = []
    values, moved = _channels_last(values)
    if moved:
        notes.append("images are channels first [N, C, H, W]: channels are moved to the end")
    if values.ndim == 4 and values.shape[3] == 4:
        values = values[..., :3]
        notes.append("images have four channels: the last, alpha, is dropped")
    elif values.ndim == 4 and values.shape[3] == 1:
        values = values[..., 0]
    if not (values.ndim == 3 or (values.ndim == 4 and values.shape[3] == 3)):
        raise DataError(
            f"{where}: images have shape {list(values.shape)}; reshape them to [N, H, W] or [N, H, W, 3]"
        )
    if values.dtype == np.uint8:
        return values, tuple(notes)
    if values.dtype.kind not in "iuf":
        raise DataError(f"{where}: images have type {values.dtype}; save them as uint8 from 0 to 255")
    scale = 255 if values.dtype.kind == "f" and values.size and values.max() <= 1 else 1
    notes.append(
        f"images are {values.dtype} from 0 to {'1, in steps of 1/255' if scale > 1 else '255, all whole'}: "
        "converted to uint8 without loss"
    )
    return _exact(values, scale, where), tuple(notes)


def _channels_last(values: np.ndarray) -> tuple[np.ndarray, bool]:
    """Move the channels to the end if only the second axis can be channels."""
    counts = (1, 3, 4)
    moved = values.ndim == 4 and values.shape[1] in counts and values.shape[3] not in counts
    return (np.moveaxis(values, 1, 3), True) if moved else (values, False)


def _exact(values: np.ndarray, scale: int, where: object) -> np.ndarray:
    """Scale and round in blocks of rows; refuse values that are then not whole or out of range."""
    pixels = np.empty(values.shape, np.uint8)
    slack = scale * np.finfo(values.dtype).eps if values.dtype.kind == "f" else 0
    for start in range(0, len(values), ROWS):
        block = values[start : start + ROWS]
        scaled = block.astype(np.float64) * scale
        rounded = np.rint(scaled)
        if not ((np.abs(scaled - rounded) <= slack) & (rounded >= 0) & (rounded <= 255)).all():
            raise DataError(
                f"{where}: images are {values.dtype} from {block.min():.4g} to {block.max():.4g} and not on 256 "
                "whole levels; save uint8 pixels, for [0, 1] with np.rint(255 * x).astype(np.uint8)"
            )
        pixels[start : start + ROWS] = rounded
    return pixels
