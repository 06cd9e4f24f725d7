"""Rotations of images, to be predicted by a classifier."""

from __future__ import annotations

__all__ = ["rotated"]

import torch
from jaxtyping import Float, Int
from torch import Tensor


def rotated(images: Float[Tensor, "B C S S"]) -> tuple[Float[Tensor, "_ C S S"], Int[Tensor, "_"]]:
    """Return images ``[4 B, C, S, S]`` rotated by 0, 90, 180 and 270 degrees, and these numbers from 0 to 3 ``[4 B]``.

    References
    ----------
    Hendrycks et al., Using Self-Supervised Learning Can Improve Model Robustness and Uncertainty, NeurIPS 2019.
    """
    turns = torch.arange(4, device=images.device).repeat_interleave(len(images))
    return torch.cat([torch.rot90(images, turn, (2, 3)) for turn in range(4)]), turns
