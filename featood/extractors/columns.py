"""Columns of features: tensors at places of the network, pooled to one vector per row."""

from __future__ import annotations

__all__ = ["Column", "Tap"]

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from featood.extractors.gram import POWERS
from featood.extractors.layout import VECTORS, Layout
from featood.extractors.pooling import pool
from featood.extractors.trace import Place


@dataclasses.dataclass(frozen=True)
class Tap:
    """A place in the network, and the layout of the tensor there."""

    place: Place
    layout: Layout = VECTORS
    assumed: Layout | None = None
    """The layout that a recipe implies if it does not state one; None if it must be stated."""


@dataclasses.dataclass(frozen=True)
class Column:
    """One column of features."""

    taps: tuple[Tap, ...]
    """Several taps are concatenated."""
    how: str = "avg"
    """Pooling; see :func:`featood.extractors.pooling.pool`."""
    unit: bool = False
    """Whether rows are scaled to length 1."""

    def values(self, seen: Mapping[Place, Tensor]) -> Tensor:
        """Compute the column ``[B, D]`` from the tensors at the places."""
        parts = [pool(seen[tap.place].float(), self.how, *tap.layout) for tap in self.taps]
        joined = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
        return torch.nn.functional.normalize(joined, dim=1) if self.unit else joined

    def as_json(self) -> list[Any]:
        """Return what determines the values: module, side, pooling, and the layout if it is not the usual one."""
        parts = [self._tap_as_json(tap) for tap in self.taps]
        return parts[0] if len(parts) == 1 else parts

    def _tap_as_json(self, tap: Tap) -> list[Any]:
        how = f"gram/{POWERS[0]}-{POWERS[-1]}" if self.how == "gram" else self.how
        entry: list[Any] = [*tap.place, f"{how}/unit" if self.unit else how]
        prefix = 0 if self.how == "token" else tap.layout.prefix
        registers = tap.layout.registers if self.how == "registers" else 0
        if Layout(tap.layout.channels, prefix, registers) != tap.assumed:
            stated = {"channels": tap.layout.channels, "prefix": prefix, "registers": registers}
            entry.append({key: value for key, value in stated.items() if value or key != "registers"})
        return entry
