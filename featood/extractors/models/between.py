"""Points between the codes of images, from which networks make images."""

from __future__ import annotations

__all__ = ["PAIRS", "SAMPLES", "between"]

import torch
from torch import Tensor

SAMPLES = 64
"""Images in a picture of samples."""
PAIRS = 8
"""Pairs of images in a picture of interpolations, with as many points for each."""


def between(codes: Tensor) -> Tensor:
    """Return points at equal distances from the first half of some codes ``[2 P, ...]`` to the second half.

    Returns
    -------
    Tensor
        ``[P * PAIRS, ...]``, pair by pair, each beginning with its first code and ending with its second.
    """
    first, second = codes.chunk(2)
    shares = torch.linspace(0, 1, PAIRS).to(codes).view(-1, *[1] * (codes.ndim - 1))
    return torch.lerp(first[:, None], second[:, None], shares).flatten(0, 1)
