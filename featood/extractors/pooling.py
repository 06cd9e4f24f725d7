"""Pooling of feature maps and tokens of any layout to one vector per row."""

from __future__ import annotations

__all__ = ["MAP", "OF_PREFIX", "POOLS", "pool", "positions_of"]

import torch
from torch import Tensor

from featood.errors import UsageError
from featood.extractors.gram import gram_sums

POOLS = ("avg", "std", "max", "avg_std", "token", "token_avg", "registers", "gram", "norm")
OF_PREFIX = ("token", "token_avg", "registers")
"""Poolings that read the class token or the register tokens."""
MAP = "map"
"""Name of the column of the unpooled last map, and of its pooling."""


def positions_of(values: Tensor, channels: int) -> Tensor:
    """Reshape a map of any rank, with the channels in axis `channels`, to positions by channels ``[B, T, C]``."""
    channels %= values.ndim
    if channels == values.ndim - 1:
        return values.flatten(1, -2)
    return (values if channels == 1 else values.movedim(channels, 1)).flatten(2).mT


def pool(values: Tensor, how: str, channels: int = 1, prefix: int = 0, registers: int = 0) -> Tensor:
    """Pool a feature map or tokens to ``[B, C]``.

    Parameters
    ----------
    values : Tensor
        ``[B, C, H, W]``, ``[B, H, W, C]``, ``[B, T, C]``, or any other rank; for vectors ``[B, C]``, only ``avg`` is
        possible, which returns them unchanged.
    how : str
        ``avg``; ``max``; ``std``, the unbiased standard deviation over positions; ``avg_std``, both ``[B, 2C]``;
        ``token``, the first position; ``token_avg``, ``token`` and ``avg`` ``[B, 2C]``; ``registers``, the mean of the
        register tokens; ``gram``, :func:`featood.extractors.gram.gram_sums` ``[B, P * C]``; ``map``, no pooling
        ``[B, C * T]``; ``norm``, the Euclidean norm over positions of the positive part.
    channels : int
        The axis of the channels; all axes except it and the first are positions.
    prefix : int
        Number of leading positions that are not part of the image (class and register tokens), which are used only by
        ``token``, ``token_avg`` and ``registers``.
    registers : int
        Number of these that are register tokens; they follow the class token.

    Raises
    ------
    UsageError
        If there are too few axes or positions for the pooling.
    """
    if values.ndim == 2:
        if how == "avg":
            return values
        raise UsageError(
            f"pooling '{how}' needs a map or tokens; this tap returns plain vectors (use --pool avg)"
        )
    positions = positions_of(values, channels)
    if how in OF_PREFIX and values.ndim != 3:
        raise UsageError(
            f"pooling '{how}' needs tokens [B, T, C]; this tap returns a map (use avg, std or max)"
        )
    token = positions[:, 0]
    if how == "token":
        return token
    if how == "registers":
        return positions[:, prefix - registers : prefix].mean(1)
    positions = positions[:, prefix:]
    if how == "avg":
        return positions.mean(1)
    if how == "token_avg":
        return torch.cat([token, positions.mean(1)], 1)
    if how == "max":
        return positions.amax(1)
    if how == "gram":
        return gram_sums(positions)
    if how == "norm":
        return positions.relu().norm(dim=1)
    if how == MAP:
        return positions.mT.flatten(1)
    if positions.shape[1] < 2:
        raise UsageError(f"pooling '{how}' needs more than one position; this map has one (use --pool avg)")
    std = positions.std(1, unbiased=True)
    return std if how == "std" else torch.cat([positions.mean(1), std], 1)
