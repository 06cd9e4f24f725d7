"""Nearest rows of a bank that is searched in parts, each of which is in memory alone, by one process or by several."""

from __future__ import annotations

__all__ = ["PartSearch", "merged"]

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from featood.numerics.neighbours import Neighbours, build_index, search


@dataclasses.dataclass(frozen=True, eq=False)
class PartSearch:
    """The nearest rows of queries in parts of a bank, given by number; :func:`merged` selects those in the whole bank.

    It reads one part at a time, and can be the work of an engine, whose items are the numbers of the parts.

    Examples
    --------
    >>> bank, queries = torch.arange(10.0)[:, None], torch.tensor([[3.2], [8.9]])
    >>> work = PartSearch(bank, queries, k=2, size=4)
    >>> merged(work(range(work.parts)), k=2).rows
    tensor([[3, 4],
            [9, 8]])
    """

    bank: Any
    """Rows ``[N, D]`` that are read by slice: a tensor, a Bank, or a column of a set in the cache."""
    queries: Float[Tensor, "B D"]
    """Finite rows."""
    k: int
    """Number of neighbours; a smaller part returns all of its rows."""
    size: int
    """Rows of a part."""
    product: bool = False
    """Search for the largest inner products instead of the smallest Euclidean distances."""

    @property
    def parts(self) -> int:
        """Number of parts."""
        return -(-int(self.bank.shape[0]) // self.size)

    def __call__(self, numbers: Iterable[int]) -> Iterator[Neighbours]:
        """Yield the nearest rows ``[B, min(k, rows of the part)]`` of each part, with their numbers in the bank."""
        for number in numbers:
            start = number * self.size
            rows = torch.as_tensor(self.bank[start : start + self.size])
            found = search(build_index(rows, self.product), self.queries, min(self.k, len(rows)))
            yield Neighbours(found.values, found.rows + start)


def merged(parts: Iterable[Neighbours], k: int, product: bool = False) -> Neighbours:
    """Select the k nearest rows of a bank from the k nearest of each of its parts.

    Values are computed from pairs of rows alone, so they are those of :func:`featood.numerics.neighbours.search` in the
    whole bank, to the last bit, where that finds the nearest rows (see there). Of rows with equal values, that with the
    smallest number comes first; which of them a part returns is undefined, as it is in a search.

    Parameters
    ----------
    parts : iterable of Neighbours
        ``[B, k]``, or fewer columns for parts of fewer rows, in any order. At most two are in memory at the same time.
    k : int
        Number of neighbours; all rows, if there are fewer.
    product : bool
        Whether the values are inner products, of which the largest are nearest.

    Returns
    -------
    Neighbours
        Values and rows ``[B, k]``, the nearest first.

    Raises
    ------
    ValueError
        If there are no parts.
    """
    best: Neighbours | None = None
    for part in parts:
        pair = (part,) if best is None else (best, part)
        values, rows = (torch.cat(columns, 1) for columns in zip(*pair, strict=True))
        by_row = rows.argsort(1)
        by_value = values.gather(1, by_row).sort(dim=1, descending=product, stable=True).indices
        order = by_row.gather(1, by_value)[:, :k]
        best = Neighbours(values.gather(1, order), rows.gather(1, order))
    if best is None:
        raise ValueError("a bank has at least one part")
    return best
