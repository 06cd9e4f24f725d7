"""Exact quantiles of a stream of numbers, of all or by column, in constant memory, for any order and blocks."""

from __future__ import annotations

__all__ = ["column_quantiles", "quantiles"]

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from jaxtyping import Float, Int, Real
from torch import Tensor

from featood.errors import DataError

CACHED, LARGE = 1 << 17, 1 << 24
"""Number of values that are processed at a time, on a CPU and on other devices."""
KEY_BITS = 32
TABLE = 1 << 20
"""Maximum number of counters per pass; with fewer columns, a pass resolves more bits of a number."""


def quantiles(blocks: Callable[[], Iterable[Real[Tensor, "..."]]], fractions: Sequence[float]) -> list[float]:
    """Quantiles of all numbers in a stream of tensors of any shape; see :func:`column_quantiles`.

    Returns
    -------
    list of float
        One quantile per fraction.
    """
    return column_quantiles(lambda: (block.reshape(-1, 1) for block in blocks()), fractions)[:, 0].tolist()


def column_quantiles(
    blocks: Callable[[], Iterable[Real[Tensor, "B D"]]], fractions: Sequence[float]
) -> Float[Tensor, "Q D"]:
    """Quantiles of each column of a stream of rows, equal to ``numpy.quantile`` of float32 values.

    The bits of a float32, interpreted as an integer, sort like the number. A histogram of the upper bits finds the bin
    that contains an order statistic, a histogram of the next bits within that bin finds a narrower bin, and so on down
    to the number itself. This takes two passes for a few columns and four for thousands, or on a GPU, in memory that
    does not depend on the length of the stream.

    Parameters
    ----------
    blocks : callable
        Starts a pass: returns an iterable of tensors ``[B, D]``. Called up to five times.
    fractions : sequence of float
        Q fractions in [0, 1]. Quantiles between two order statistics are interpolated linearly.

    Returns
    -------
    Tensor
        ``[Q, D]`` in float64.

    Raises
    ------
    DataError
        If the stream contains no numbers.
    """
    first = next((block for block in blocks() if block.numel()), None)
    if first is None:
        raise DataError("there are no rows to compute quantiles of")
    width = first.shape[1]
    # a GPU counts equal values one after the other, unless a table is small enough for the memory of each of its parts
    bits = 16 if first.is_cpu and (width << 16) * 2 * len(fractions) <= TABLE else 8
    together = max(CACHED if first.is_cpu else LARGE, width << bits)
    offsets = (torch.arange(width, dtype=torch.int32, device=first.device) << bits)[None]

    count, ranks = 0, torch.zeros(0, dtype=torch.long)
    prefixes = torch.zeros(1, width, dtype=torch.long, device=first.device)  # of each order statistic
    for shift in range(KEY_BITS - bits, -1, -bits):
        counts = torch.zeros(len(prefixes), width << bits, dtype=torch.long, device=first.device)
        for part in _parts(blocks(), together):
            keys = _keys(part)
            if shift + bits == KEY_BITS:
                digits = (keys >> shift) + (1 << (bits - 1)) + offsets
                counts[0] += torch.bincount(digits.view(-1), minlength=width << bits)
                continue
            upper = keys >> (shift + bits)
            for prefix, table in zip(prefixes, counts, strict=True):
                # of an unsigned key; the keys are signed
                own = upper == (prefix - (1 << (KEY_BITS - 1 - shift - bits))).int()
                digits = (keys[own] >> shift) & ((1 << bits) - 1)
                table += torch.bincount(digits + offsets.expand_as(own)[own], minlength=width << bits)
        table = counts.view(len(prefixes), width, -1)
        if not count:  # the first pass
            count = int(table[0, 0].sum())
            positions = [fraction * (count - 1) for fraction in fractions]
            wanted = sorted({rank for at in positions for rank in (math.floor(at), math.ceil(at))})
            ranks = torch.tensor(wanted, device=first.device)[:, None].repeat(1, width)
            table = table.expand(len(wanted), -1, -1)
            prefixes = prefixes.expand(len(wanted), -1)
        ends = table.cumsum(2)
        digit = torch.searchsorted(ends, ranks[:, :, None], right=True)
        below = (ends - table).gather(2, digit)
        ranks = ranks - below[:, :, 0]
        prefixes = (prefixes << bits) | digit[:, :, 0]

    found = dict(zip(wanted, _numbers(prefixes).double(), strict=True))
    parts = [
        found[math.floor(at)] + at % 1 * (found[math.ceil(at)] - found[math.floor(at)]) for at in positions
    ]
    return torch.stack(parts)


def _parts(blocks: Iterable[Real[Tensor, "_ D"]], numbers: int) -> Iterator[Real[Tensor, "_ D"]]:
    """Iterate over blocks in parts of about so many numbers, whose temporaries stay in a cache."""
    for block in blocks:
        yield from block.split(max(1, numbers // block.shape[1]))


def _keys(values: Real[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    """Return signed 32-bit integers that sort like the float32 numbers."""
    bits = values.float().contiguous().view(torch.int32)
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


def _numbers(keys: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    signed = (keys - (1 << 31)).int()
    return (signed ^ ((signed >> 31) & 0x7FFFFFFF)).view(torch.float32)
