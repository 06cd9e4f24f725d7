"""Row sums of the Gram matrices of a feature map."""

from __future__ import annotations

__all__ = ["POWERS", "gram_sums"]

from collections.abc import Sequence

import torch
from torch import Tensor

POWERS = tuple(range(1, 11))


def gram_sums(positions: Tensor, powers: Sequence[int] = POWERS) -> Tensor:
    """Return the row sums of the Gram matrices of powers of a feature map, rescaled by the corresponding root.

    With F the map as a matrix of channels by positions and F^p its elementwise power, this is the signed p-th root of
    the row sums of ``F^p (F^p)^T``, by default for the powers 1 to 10. The root is taken of the sum, as in the
    authors' code, so the ``C x C`` matrix is never formed. OpenOOD uses the powers 1 to 5.

    Parameters
    ----------
    positions : Tensor
        Feature map ``[B, T, C]``: positions by channels.
    powers : sequence of int
        Powers p of at least 1.

    Returns
    -------
    Tensor
        ``[B, P * C]``, ordered by power, then channel.

    References
    ----------
    Sastry and Oore, Detecting Out-of-Distribution Examples with Gram Matrices, ICML 2020.
    """
    # The sum over positions t of x_tc^p sum_k x_tk^p would overflow or underflow. Therefore, the maximum m_t of each
    # position is factored out of the inner sum, and the maximum x_tc m_t of each channel out of the outer sum. The
    # remaining factors are powers of numbers up to 1, some of which are 1.
    largest = positions.abs().amax(2, keepdim=True)
    inner = positions / largest.masked_fill(largest == 0, 1)
    outer = positions * largest
    peaks = outer.abs().amax(1, keepdim=True)
    outer = outer / peaks.masked_fill(peaks == 0, 1)
    inner_power, outer_power = torch.ones_like(inner), torch.ones_like(outer)
    parts = []
    for power in range(1, max(powers) + 1):
        inner_power, outer_power = inner_power * inner, outer_power * outer
        if power not in powers:
            continue
        sums = (outer_power * inner_power.sum(2, keepdim=True)).sum(1)
        parts.append(sums.sign() * sums.abs().pow(1 / power) * peaks[:, 0])
    return torch.cat(parts, 1)
