"""Names of the columns with a density of the inputs, on which extractors and heads agree."""

from __future__ import annotations

__all__ = ["DENSITIES", "is_energy"]

DENSITIES = ("log-density", "evidence-bound", "energy", "reconstruction-error")
"""A log-density in nats, a lower bound of one, and energies, which are low for likely inputs and have no unit."""


def is_energy(column: str) -> bool:
    """Whether a column, such as ``energy`` or ``ensemble.energy``, has energies."""
    return column.rpartition(".")[2] in ("energy", "reconstruction-error")
