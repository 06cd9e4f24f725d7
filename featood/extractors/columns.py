"""Columns: what passes a place of the network, pooled to one vector a row."""

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
    """Where a tensor is taken, and how its axes are read."""

    place: Place
    layout: Layout = VECTORS
    assumed: Layout | None = None
    """How the recipe is read where it says nothing of the axes; None where it must say."""


@dataclasses.dataclass(frozen=True)
class Column:
    """One column of features."""

    taps: tuple[Tap, ...]
    """Several are put side by side."""
    how: str = "avg"
    """Pooling; see :func:`featood.extractors.pooling.pool`."""
    unit: bool = False
    """Whether rows are scaled to length 1."""

    def values(self, seen: Mapping[Place, Tensor]) -> Tensor:
        """Make the column ``[B, D]`` of what passed the places."""
        parts = [pool(seen[tap.place].float(), self.how, *tap.layout) for tap in self.taps]
        joined = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
        return torch.nn.functional.normalize(joined, dim=1) if self.unit else joined

    def as_json(self) -> list[Any]:
        """Return what decides the values: module, side, pooling, and the order of axes where it is not the usual."""
        parts = [self._tap_as_json(tap) for tap in self.taps]
        return parts[0] if len(parts) == 1 else parts

    def _tap_as_json(self, tap: Tap) -> list[Any]:
        how = f"gram/{POWERS[0]}-{POWERS[-1]}" if self.how == "gram" else self.how
        entry: list[Any] = [*tap.place, f"{how}/unit" if self.unit else how]
        prefix = 0 if self.how == "token" else tap.layout.prefix
        if (tap.layout.channels, prefix) != tap.assumed:
            entry.append({"channels": tap.layout.channels, "prefix": prefix})
        return entry
