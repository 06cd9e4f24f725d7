"""Comparison of two runs by the ratios to their floors."""

from __future__ import annotations

__all__ = ["Ratios", "compare", "grown", "ratios"]

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from featood.errors import UsageError
from featood.speed.report import SECTIONS, Row, label

Ratios = Mapping[tuple[str, str], float | None]
"""Ratios to floors, by what was measured and the name of the ratio; None for a measurement that failed."""


def ratios(*runs: Mapping[str, Sequence[Row]]) -> Ratios:
    """Return all ratios of a run; of several equal runs, the median of each.

    Parameters
    ----------
    *runs : mapping of str to rows
        Rows by section, as in the JSON file of ``featood bench``.
    """
    found: dict[tuple[str, str], list[float | None]] = {}
    for run in runs:
        for name, section in SECTIONS.items():
            for row in run.get(name, ()):
                for ratio in section.ratios:
                    found.setdefault((label(name, row), ratio), []).append(row.get(ratio))
    return {key: _median(values) for key, values in found.items()}


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def compare(before: Ratios, after: Ratios) -> list[dict[str, Any]]:
    """Compare the ratios of two runs, which a slower machine changes less than seconds.

    Returns
    -------
    list of dict
        For each ratio in both: what it is of, its values, and ``grown``, the second divided by the first; infinite if
        there is no second, because the measurement failed or was stopped.

    Raises
    ------
    UsageError
        If the runs have no ratio in common.
    """
    found = [
        {
            "of": key[0],
            "ratio": key[1],
            "before": old,
            "after": new,
            "grown": new / old if new else float("inf"),
        }
        for key, old in before.items()
        if old and key in after
        for new in [after[key]]
    ]
    if not found:
        raise UsageError("the two runs have no ratio in common; measure the same things, with the same sizes")
    return found


def grown(changes: Sequence[Mapping[str, Any]], factor: float) -> list[str]:
    """Return one line for each ratio that has grown by more than a factor."""
    return [
        f"{change['of']}: {change['ratio']} has grown from {change['before']:.3g} to {_shown(change['after'])}"
        for change in changes
        if change["grown"] > factor
    ]


def _shown(value: float | None) -> str:
    return "no result" if value is None else f"{value:.3g}"
