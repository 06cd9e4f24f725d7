"""Lower bounds of all distances by one product in bfloat16, to compare only a few pairs exactly.

A query x and a row y of the bank are shifted by the same vector and scaled by the same power of two, to u and v. With
u' = bfloat16(u), v' = bfloat16(v) and the rounding errors du = u - u', dv = v - v', the Cauchy-Schwarz inequality gives

    u v  =  u'v' + du v + u' dv  <=  u'v' + |du| |v| + |u'| |dv|.

The norms of the rounding errors are computed for each row, not estimated; at most, they are |dv| <= 2^-8 |v|, as
bfloat16 has 8 significant bits. A sum of K products of bfloat16 numbers in float32 errs by at most g = 2^-23 K times
the sum of their magnitudes, in any order, even if operations are truncated instead of rounded. Therefore

    L  =  (1 - 1.2 g - 2^-21) |v|^2 - 2 u'v' - 2 |du| |v| - 2 |u'| (|dv| + 1.05 g |v|)  <=  |u - v|^2 - |u|^2,

computed in float32: 1.2 g and 1.05 g cover its summation if D <= 2^16, 2^-21 the rounding of |v|^2 to a sum of three
bfloat16 numbers, and the other norms are rounded up. L is an inner product of rows that are extended by five columns,
so one product of matrices gives the lower bounds of all pairs. For inner products, |v|^2 is left out, and L <= -2 u v.

Any k rows give an upper bound T of the distance to the k-th nearest row; the rows with the smallest L are taken.
Only rows with L <= T can be nearer. The product is returned in bfloat16, and T is rounded likewise: rounding to nearest
is monotone, so it does not change L <= T to L > T.
"""

from __future__ import annotations

__all__ = ["Compare", "Screen", "build_screen", "has_bfloat16", "screened"]

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from featood.numerics.banks import Bank

BLOCK_ROWS = 1024
BANK_ROWS = 60 * BLOCK_ROWS
"""Rows to bound at a time: the bounds for 256 queries take 30 MiB, about the size of a cache."""
GROUP = 32
"""Rows of which the smallest bound is looked at first."""
TERMS = 3
COLUMNS = TERMS + 2
"""Columns by which rows are extended: |v|^2 in three terms, |v|, |dv|."""
UP = 1 + 2.0**-7
"""Factor after which rounding to bfloat16 cannot give less than the value before."""
UNDERFLOW = 2.0**-100
"""More than a sum loses if the processor replaces denormal numbers by zero."""

Compare = Callable[[Tensor, Tensor], Tensor]
"""From numbers of queries ``[P]`` and rows of the bank ``[P]`` to distances, or negated inner products, ``[P]``."""


class Screen(NamedTuple):
    """Rows of a bank, prepared to be bounded."""

    rows: Tensor
    """Shifted, scaled and extended rows ``[N, D + 5]`` in bfloat16."""
    center: Tensor
    """The shift ``[D]`` in float64."""
    scale: float
    product: bool
    """Whether inner products are bounded, instead of distances."""


def has_bfloat16() -> bool:
    """Return whether the processor multiplies in bfloat16 (AVX-512 BF16 or AMX), as PyTorch reports."""
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # PyTorch 2.9 or later
    has_units = any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16"))
    return has_units and torch.backends.mkldnn.is_available()


def build_screen(rows: Float[Tensor, "N D"] | Bank, product: bool = False) -> Screen:
    """Prepare finite rows ``[N, D]``; the result takes half the memory of the rows in float32."""
    exact = torch.promote_types(rows.dtype, torch.float32)
    center = rows[:: max(1, len(rows) // BLOCK_ROWS)].double().mean(0).to(exact)  # any vector near the rows
    largest = max(float((part - center).abs().amax()) for part in rows.split(BLOCK_ROWS))
    power = 1000 if exact == torch.float64 else 120  # the scale must not overflow
    scale = 2.0 ** -max(-power, min(math.frexp(largest)[1], power))
    size = rows.shape[1]
    extended = torch.empty(len(rows), size + COLUMNS, dtype=torch.bfloat16)
    slack = _summation(size)
    for part, out in zip(rows.split(BLOCK_ROWS), extended.split(BLOCK_ROWS), strict=True):
        moved = (part - center) * scale
        out[:, :size] = moved
        norm = _norm(moved)
        lost = _norm(moved - out[:, :size]) + 2.0**-23 * norm  # the second: of subtracting the center
        square = norm.square() * (0 if product else 1 - 1.2 * slack - 2.0**-21)
        for term in range(size, size + TERMS):
            out[:, term] = square
            square = square - out[:, term]
        out[:, -2] = UP * norm
        out[:, -1] = UP * (lost + 1.05 * slack * norm)
    return Screen(extended, center.double(), scale, product)


def screened(
    screen: Screen, queries: Float[Tensor, "B D"], k: int, compare: Compare
) -> tuple[Float[Tensor, "B k"], Int[Tensor, "B k"]]:
    """Find the k rows with the smallest values of `compare`, which is called for a few pairs only.

    Parameters
    ----------
    screen : Screen
        N rows.
    queries : Tensor
        ``[B, D]``; a few hundred are best.
    k : int
        Number of rows, at most N.
    compare : callable
        Values of pairs in float64: distances with a relative error up to 2^-23, products up to the rounding of float64.

    Returns
    -------
    values : Tensor
        ``[B, k]``, ascending.
    rows : Tensor
        Row numbers ``[B, k]``.
    """
    extended, limit_of = _extended(screen, queries)
    every = torch.arange(len(queries))[:, None]
    values = torch.empty(len(queries), 0, dtype=torch.float64)
    found = values.long()
    for start in range(0, len(screen.rows), BANK_ROWS):
        bank = screen.rows[start : start + BANK_ROWS]
        count = min(k, len(bank))
        bounds = _bounds(extended, bank, count)
        smallest = bounds.amin(1)
        rows = _rows_of_smallest(bounds, smallest, count)
        bounds.flatten(1)[every, rows] = torch.inf  # they are compared now, and must not be again
        more = compare(every.expand_as(rows).flatten(), rows.flatten() + start).view_as(rows)
        values, found = _merge(values, found, more, rows + start, k)
        if count < k:  # that were all rows of this part
            continue
        limit = limit_of(values[:, -1])[:, None]
        query, row = _pairs_below(bounds, smallest, limit)
        more, rows = _padded(query, compare(query, row + start), row + start, len(queries))
        values, found = _merge(values, found, more, rows, k)
    return values, found


def _summation(size: int) -> float:
    return (size + COLUMNS) * 2.0**-23


def _norm(rows: Tensor) -> Tensor:
    return torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64)


def _extended(screen: Screen, queries: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Return the queries extended ``[B, D + 5]``, and a function from values of `compare` to limits of the bounds."""
    given = queries.double()
    moved = given if screen.product else (given - screen.center) * screen.scale
    least = 2.0**-1000 if screen.product else 1.0
    # each query is divided by a power of two, so that entries are at most 1
    size = 2.0 ** moved.abs().amax(1).clamp(min=least).log2().ceil()
    unit = moved / size[:, None]
    low = unit.bfloat16()
    ones = (torch.zeros_like(size) if screen.product else 1 / size).expand(TERMS, -1)
    norms = torch.stack([*ones, -2 * UP * _norm(unit - low), -2 * UP * _norm(low)], 1)
    extended = torch.cat([-2 * low, norms.bfloat16()], 1)

    def limit(values: Tensor) -> Tensor:
        if screen.product:
            aside = given @ screen.center  # the product with the center, which the bounds leave out
            scale = 2 * screen.scale / size
            longest = math.sqrt(len(screen.center)) + screen.scale * float(screen.center.norm())
            rounding = 2.0**-30 * _norm(unit) * longest  # of the products in float64
            limits = scale * (values + aside) + rounding
        else:
            limits = ((1 + 2.0**-21) * (values * screen.scale).square() - moved.square().sum(1)) / size
            limits[values == 0] = -torch.inf  # nothing is nearer
        return (limits + UNDERFLOW).bfloat16()

    return extended, limit


def _bounds(queries: Tensor, bank: Tensor, k: int) -> Tensor:
    """Lower bounds ``[B, G, M]`` of a query and row ``g M + m``, infinite beyond the last row."""
    group = GROUP
    while group > 1 and len(bank) < 4 * k * group:
        group //= 2
    count = -(-len(bank) // group)
    bounds = torch.empty(len(queries), group * count, dtype=torch.bfloat16)
    bounds[:, len(bank) :] = torch.inf
    torch.mm(queries, bank.T, out=bounds[:, : len(bank)])
    return bounds.view(-1, group, count)


def _rows_of_smallest(bounds: Tensor, smallest: Tensor, k: int) -> Tensor:
    """Rows ``[B, k]`` of the smallest bounds: they are in the k groups whose smallest bound is smallest."""
    _, size, count = bounds.shape
    groups = smallest.topk(k, largest=False, sorted=False).indices
    members = bounds.gather(2, groups[:, None].expand(-1, size, -1)).flatten(1)
    place = members.topk(k, largest=False, sorted=False).indices
    return place // k * count + groups.gather(1, place % k)


def _pairs_below(bounds: Tensor, smallest: Tensor, limit: Tensor) -> tuple[Tensor, Tensor]:
    """Numbers of queries ``[P]``, ascending, and rows ``[P]`` whose bound is at most the limit ``[B, 1]``."""
    query, group = (smallest <= limit).nonzero().T
    place, member = (bounds[query, :, group] <= limit[query]).nonzero().T
    return query[place], member * bounds.shape[2] + group[place]


def _padded(query: Tensor, values: Tensor, rows: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Values and rows ``[P]`` of ascending queries as ``[B, W]``, filled up with infinite values."""
    counts = torch.bincount(query, minlength=count)
    place = torch.arange(len(query)) - (counts.cumsum(0) - counts)[query]
    width = max(counts.tolist(), default=0)
    padded = values.new_full((count, width), torch.inf), rows.new_zeros(count, width)
    for target, source in zip(padded, (values, rows), strict=True):
        target[query, place] = source
    return padded


def _merge(values: Tensor, rows: Tensor, more: Tensor, more_rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
    every = torch.cat([values, more], 1)
    best, place = every.topk(min(k, every.shape[1]), largest=False)
    return best, torch.cat([rows, more_rows], 1).gather(1, place)
