"""Exact quantiles of a stream of numbers: two passes in flat memory, whatever the order and the blocks."""

from __future__ import annotations

__all__ = ["quantiles"]

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from featood.errors import DataError

HALF = 1 << 16


def quantiles(blocks: Callable[[], Iterable[Tensor]], fractions: Sequence[float]) -> list[float]:
    """Quantiles of all numbers in a stream, as ``numpy.quantile`` gives them for float32.

    The bits of a float32, read as an integer, sort like the number itself. A histogram over the upper 16
    bits finds the bin that holds an order statistic, a second one over the lower 16 bits within that bin
    finds the number: two passes, and no memory that grows with the stream.

    Parameters
    ----------
    blocks : callable
        Starts a pass: returns an iterable of tensors of any shape. Called twice.
    fractions : sequence of float
        In [0, 1]. Between two order statistics the quantile is interpolated linearly.

    Returns
    -------
    list of float
        One quantile for each fraction.

    Raises
    ------
    DataError
        When the stream holds no numbers.
    """
    coarse = torch.zeros(HALF, dtype=torch.long)
    for block in blocks():
        coarse += torch.bincount(_keys(block) >> 16, minlength=HALF).cpu()
    ends = coarse.cumsum(0)
    count = int(ends[-1])
    if not count:
        raise DataError("there are no rows to take quantiles of")

    positions = [fraction * (count - 1) for fraction in fractions]
    ranks = sorted({rank for at in positions for rank in (math.floor(at), math.ceil(at))})
    bins = torch.searchsorted(ends, torch.tensor(ranks), right=True).tolist()
    fine = {bin_: torch.zeros(HALF, dtype=torch.long) for bin_ in set(bins)}
    for block in blocks():
        keys = _keys(block)
        upper = keys >> 16
        for bin_, counts in fine.items():
            counts += torch.bincount(keys[upper == bin_] & (HALF - 1), minlength=HALF).cpu()

    found = {}
    for rank, bin_ in zip(ranks, bins, strict=True):
        inside = rank - int(ends[bin_] - coarse[bin_])
        lower = int(torch.searchsorted(fine[bin_].cumsum(0), inside, right=True))
        found[rank] = _number((bin_ << 16) | lower)
    return [_between(found[math.floor(at)], found[math.ceil(at)], at % 1) for at in positions]


def _keys(values: Tensor) -> Tensor:
    """Integers in ``[0, 2^32)`` that sort like the float32 numbers."""
    bits = values.flatten().float().contiguous().view(torch.int32).long()
    return torch.where(bits < 0, -1 - bits, bits + (1 << 31))


def _number(key: int) -> float:
    bits = key - (1 << 31) if key >= 1 << 31 else -1 - key
    return float(torch.tensor(bits, dtype=torch.int32).view(torch.float32))


def _between(low: float, high: float, share: float) -> float:
    return low + share * (high - low)
