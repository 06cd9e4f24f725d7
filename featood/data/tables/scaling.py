"""Scaling of the columns of a table, fitted on some rows."""

from __future__ import annotations

__all__ = ["SCALES", "Scaling", "fit_scaling"]

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from featood.data.tables.table import Table
from featood.errors import UsageError

SCALES = ("none", "min-max", "standard")


@dataclass(frozen=True, eq=False)
class Scaling:
    """A shift and a width for each column: ``(features - shift) / width``."""

    kind: str
    shift: np.ndarray
    width: np.ndarray

    def __call__(self, table: Table) -> Table:
        """Scale the features."""
        if self.kind == "none":  # tokens keep their type
            return table
        return replace(table, features=(table.features - self.shift) / self.width)

    def as_json(self) -> dict[str, Any]:
        """Return the plain JSON form."""
        return {"kind": self.kind, "shift": self.shift.tolist(), "width": self.width.tolist()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Scaling:
        """Restore a scaling from the output of `as_json`."""
        return cls(value["kind"], np.asarray(value["shift"]), np.asarray(value["width"]))


def fit_scaling(kind: str, features: np.ndarray) -> Scaling:
    """Fit a scaling on rows ``[N, D]``.

    Parameters
    ----------
    kind : str
        ``none``; ``min-max``: to [0, 1]; ``standard``: to mean 0 and standard deviation 1. A constant
        column is only shifted.
    features : array
        The rows to fit on.
    """
    if kind not in SCALES:
        raise UsageError(f"--scale must be one of {', '.join(SCALES)}, not {kind!r}")
    shift, width = np.zeros(features.shape[1]), np.ones(features.shape[1])
    if kind == "min-max":
        shift, width = features.min(0), np.ptp(features, axis=0)
    if kind == "standard":
        shift, width = features.mean(0), features.std(0)
    constant = np.ptp(features, axis=0) == 0  # rounding errors of the mean may give a tiny standard deviation
    return Scaling(kind, shift, np.where(constant, 1.0, width))
