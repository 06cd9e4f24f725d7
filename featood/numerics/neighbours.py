"""Exact nearest rows of a bank, by Euclidean distance or by inner product."""

from __future__ import annotations

__all__ = ["Index", "Neighbours", "build_index", "compared", "dense_search", "search"]

import functools
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from featood.numerics.banks import Bank
from featood.numerics.screens import Screen, build_screen, has_bfloat16, screened

QUERIES = 256
BANK_ROWS, BANK_BYTES = 8192, 1 << 31
"""Rows of a bank that are compared at a time on a CPU, and the memory of such a comparison on other devices."""
CACHE_BYTES = 1 << 19
"""Size of a part of the gathered rows on a CPU, which stays in the cache of a core."""
GATHER_BYTES = 1 << 28
"""Its size on other devices."""
CONVERTED = 1 << 27
"""Largest number of entries of a Bank whose rows are converted once (half a GiB), which saves a quarter of a search."""
SCREENED = 1 << 20
"""Smallest number of entries of a bank for which a screen is faster."""
LARGEST = 1e15
"""Largest magnitude, and reciprocal of the smallest, for which squares are not too large or small for float32."""
OFFSET = 16
"""Largest offset of the rows, relative to their spread, that costs few digits in float32."""
SCREENED_SIZE, LARGEST_SIZE = 64, 1 << 16
"""Smallest number of features of a row for which a screen is faster."""


class Neighbours(NamedTuple):
    """Nearest rows of queries, the nearest first."""

    values: Tensor
    """Distances, or inner products, ``[B, k]`` in float64."""
    rows: Tensor
    """Row numbers in the bank ``[B, k]``."""


class Index(NamedTuple):
    """A bank prepared for searches."""

    rows: Tensor | Bank
    """The rows ``[N, D]``."""
    product: bool
    """Whether the nearest rows are those with the largest inner product, instead of the smallest distance."""
    screen: Screen | None
    """Bounds to search with; None for searches by products in full precision."""
    center: Tensor | None
    """Vector ``[D]`` to subtract in float64 before such products; None if float32 is precise enough without."""


def build_index(
    rows: Float[Tensor, "N D"] | Bank, product: bool = False, screen: bool | None = None
) -> Index:
    """Prepare a bank for :func:`search`.

    Parameters
    ----------
    rows : Tensor or Bank
        Finite rows ``[N, D]`` of any floating-point type, which are not copied; those of a small Bank are converted.
    product : bool
        Search for the largest inner products instead of the smallest Euclidean distances.
    screen : bool, optional
        Whether to search with bounds in bfloat16, which take half the memory of the rows in float32. By default, where
        they save time: on processors with units for bfloat16, for banks of at least 2^20 entries and 64 features.
    """
    if isinstance(rows, Bank) and len(rows) * rows.shape[1] <= CONVERTED:
        rows = rows[:]
    if screen is None:
        large = SCREENED_SIZE <= rows.shape[1] <= LARGEST_SIZE and len(rows) * rows.shape[1] >= SCREENED
        screen = large and rows.is_cpu and has_bfloat16()
    if screen:
        return Index(rows, product, build_screen(rows, product), None)
    return Index(rows, product, None, _center(rows))


def search(index: Index, queries: Float[Tensor, "B D"], k: int) -> Neighbours:
    """Find the k nearest rows of each query.

    Distances are computed from the differences of rows, in float64 if rows or queries have this type and otherwise in
    float32 with sums in float64, so they have no error from cancellation and do not depend on the batch. With a screen,
    the rows are those of a comparison of all pairs, see :mod:`featood.numerics.screens`. Otherwise they are found by a
    product in the precision of the rows (by faiss, for float32 on a CPU), which may exchange rows whose squared
    distances differ by less than its rounding error, about 1e-7 of the squared norms.

    In a graph that is traced, which has no index, rows and values are those of :func:`dense_search` in float64.

    Parameters
    ----------
    index : Index
        A bank of N rows.
    queries : Tensor
        Finite rows ``[B, D]``.
    k : int
        Number of neighbours, at most N.

    Returns
    -------
    Neighbours
        Values and rows ``[B, k]``.
    """
    if torch.compiler.is_compiling():
        return _traced(index, queries.double(), k)
    queries = queries.to(torch.promote_types(queries.dtype, torch.float32))
    if index.screen is None:
        return compared(index, queries, _by_product(index, queries, k))
    parts = [
        screened(index.screen, part, k, functools.partial(_values, index, part))
        for part in queries.split(QUERIES)
    ]
    values, rows = (torch.cat(columns) for columns in zip(*parts, strict=True))
    return Neighbours(-values if index.product else values, rows)


def compared(index: Index, queries: Float[Tensor, "B D"], rows: Int[Tensor, "B k"]) -> Neighbours:
    """Compute the values of given rows ``[B, k]``, and sort them, the nearest first."""
    query = torch.arange(len(rows), device=rows.device).repeat_interleave(rows.shape[1])
    values, order = _values(index, queries, query, rows.flatten()).view_as(rows).sort(1)
    return Neighbours(-values if index.product else values, rows.gather(1, order))


def dense_search(
    queries: Float[Tensor, "B D"],
    bank: Float[Tensor, "N D"] | Bank,
    k: int,
    product: bool = False,
    center: Float[Tensor, "D"] | None = None,
) -> Neighbours:
    """Find the k nearest rows by one product with all rows, in the precision of the queries; can be traced.

    Distances are those of the product, too, so no rows ``[B, k, D]`` are gathered. They are 0 where they are below
    its rounding error, about 1e-8 of the norm of the query in float64.

    Parameters
    ----------
    queries : Tensor
        ``[B, D]``.
    bank : Tensor or Bank
        ``[N, D]`` with N >= k.
    k : int
        Number of neighbours.
    product : bool
        Search for the largest inner products instead of the smallest Euclidean distances.
    center : Tensor, optional
        Vector ``[D]`` to subtract from the rows of the bank.

    Returns
    -------
    Neighbours
        Distances, or inner products, in the precision of the queries, and rows ``[B, k]``.
    """
    best = queries[:, :0]
    found = best.long()
    size = BANK_ROWS
    if not queries.is_cpu:
        size = max(size, BANK_BYTES // (queries.element_size() * max(queries.shape)))
    for start in range(0, len(bank), size):
        part = bank[start : start + size].to(queries.dtype)
        part = part if center is None else part - center
        # |query|^2 is the same for all neighbours of a query, so it does not affect the order
        squares = torch.zeros_like(part[:, 0]) if product else part.square().sum(1)
        best = torch.cat([best, torch.addmm(squares, queries, part.T, alpha=-2)], 1)
        numbers = torch.arange(start, start + len(part), device=queries.device)
        found = torch.cat([found, numbers.expand(queries.shape[0], -1)], 1)
        best, place = best.topk(min(k, best.shape[1]), largest=False)
        found = found.gather(1, place)
    if product:
        return Neighbours(-best / 2, found)
    own = queries.square().sum(1, keepdim=True)
    squared = own + best
    rounding = queries.shape[1] * torch.finfo(queries.dtype).eps * own
    return Neighbours((squared * (squared > rounding)).sqrt(), found)


def _traced(index: Index, queries: Tensor, k: int) -> Neighbours:
    if index.product:
        return dense_search(queries, index.rows, k, product=True)
    center = index.center if index.screen is None else index.screen.center
    return dense_search(queries if center is None else queries - center, index.rows, k, center=center)


def _by_product(index: Index, queries: Tensor, k: int) -> Tensor:
    bank = index.rows
    if index.center is not None or not bool((queries.abs() < LARGEST).all()):
        center = torch.zeros_like(queries[0]) if index.center is None else index.center
        moved = queries.double() if index.product else queries - center.double()
        return dense_search(moved, bank, k, index.product, center.double()).rows
    if isinstance(bank, Tensor) and bank.is_cpu and bank.dtype == queries.dtype == torch.float32:
        import faiss

        metric = faiss.METRIC_INNER_PRODUCT if index.product else faiss.METRIC_L2
        return torch.from_numpy(faiss.knn(queries.numpy(), bank.numpy(), k, metric)[1])
    wide = torch.promote_types(bank.dtype, queries.dtype)
    return dense_search(queries.to(wide), bank, k, index.product).rows


def _center(rows: Tensor | Bank) -> Tensor | None:
    """Return a vector near the rows if their products in float32 would lose digits; otherwise None."""
    center = rows[:: max(1, len(rows) // BANK_ROWS)].double().mean(0)
    spread = max(float((part - center).abs().amax()) for part in rows.split(BANK_ROWS))
    ordinary = 1 / LARGEST < spread < LARGEST and float(center.abs().amax()) < OFFSET * spread
    return None if ordinary else center


def _values(index: Index, queries: Tensor, query: Tensor, row: Tensor) -> Tensor:
    """Distances or negated products ``[P]`` of pairs of a query and a row, given by number, in float64."""
    wide = torch.promote_types(index.rows.dtype, queries.dtype)
    part = (CACHE_BYTES if queries.is_cpu else GATHER_BYTES) // wide.itemsize
    size = max(1, part // queries.shape[1])
    parts = []
    for left, right in zip(query.split(size), row.split(size), strict=True):
        one, other = queries.index_select(0, left).to(wide), index.rows.index_select(0, right).to(wide)
        if index.product:
            parts.append(-torch.linalg.vecdot(one.double(), other.double()))
        else:
            parts.append(torch.linalg.vector_norm(other.sub_(one), dim=1, dtype=torch.float64))
    return torch.cat(parts) if parts else queries.new_empty(0, dtype=torch.float64)
