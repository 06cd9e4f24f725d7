"""Banks of rows that are kept in their stored type and converted when they are read."""

from __future__ import annotations

__all__ = ["Bank"]

import dataclasses
import functools
from collections.abc import Callable, Iterator

import torch
from torch import Tensor


@dataclasses.dataclass(frozen=True, eq=False)
class Bank:
    """Rows ``[N, D]`` of which only the stored form is in memory; it has the methods of a tensor that searches use."""

    stored: Tensor
    """``[N, D]``, such as features in float16."""
    convert: Callable[[Tensor, Tensor], Tensor]
    """From stored rows ``[B, D]`` and their numbers ``[B]`` to rows ``[B, D]``; no row depends on the others."""

    def __len__(self) -> int:
        return len(self.stored)

    def __getitem__(self, rows: slice) -> Tensor:
        numbers = torch.arange(*rows.indices(len(self)), device=self.stored.device)
        return self.convert(self.stored[rows], numbers)

    @property
    def shape(self) -> torch.Size:
        """Number of rows and their size."""
        return self.stored.shape

    @functools.cached_property
    def dtype(self) -> torch.dtype:
        """Type of converted rows."""
        return self[:1].dtype

    @property
    def is_cpu(self) -> bool:
        """Whether the rows are in the memory of the processor."""
        return self.stored.is_cpu

    def index_select(self, axis: int, rows: Tensor) -> Tensor:
        """Return rows ``[B, D]`` by number ``[B]``; the axis is 0."""
        return self.convert(self.stored.index_select(axis, rows), rows)

    def split(self, size: int) -> Iterator[Tensor]:
        """Iterate over parts of at most `size` rows."""
        return (self[start : start + size] for start in range(0, len(self), size))
