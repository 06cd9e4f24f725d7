"""Row sums of a feature map's Gram matrices."""

from __future__ import annotations

__all__ = ["POWERS", "gram_sums"]

import torch
from torch import Tensor

POWERS = (1, 2, 3, 4, 5)


def gram_sums(positions: Tensor) -> Tensor:
    """Row sums of the Gram matrices of powers of a feature map, each brought back to the map's scale.

    With F the map as a matrix of channels by positions and F^p its elementwise power, this is the signed p-th
    root of the row sums of ``F^p (F^p)^T``, for the powers 1 to 5 (the paper goes on to 10). The root is
    taken of the sum, as in the authors' code: so no ``C x C`` matrix is ever formed.

    Parameters
    ----------
    positions : Tensor
        Feature map ``[B, T, C]``: positions by channels.

    Returns
    -------
    Tensor
        ``[B, P * C]``, the channels of the first power first.

    References
    ----------
    Sastry and Oore, Detecting Out-of-Distribution Examples with Gram Matrices, ICML 2020.
    """
    # powers of activations beyond 1,000 would overflow: each channel is scaled to 1, and the root scaled back
    peaks = positions.abs().amax(1, keepdim=True)
    largest = peaks.amax(2, keepdim=True)
    rows = positions / peaks.masked_fill(peaks == 0, 1)
    others = positions / largest.masked_fill(largest == 0, 1)
    parts = []
    for power in POWERS:
        sums = (rows.pow(power) * others.pow(power).sum(2, keepdim=True)).sum(1)
        parts.append(sums.sign() * sums.abs().pow(1 / power) * (peaks * largest)[:, 0])
    return torch.cat(parts, 1)
