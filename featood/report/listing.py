"""The lines of a table of results: heads in order, each with its means over groups of sets and its sets."""

from __future__ import annotations

__all__ = ["Line", "Listing", "Order", "listed"]

import difflib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from featood.data import near_and_far
from featood.errors import UsageError
from featood.report.rows import (
    MEAN,
    METRIC_COLUMNS,
    OPEN_SET_COLUMNS,
    Row,
    best_cells,
    by_head,
    collapsed,
    headline,
    mean_rows,
    printable,
)

_COLUMNS = {column.key: column for column in (*METRIC_COLUMNS, *OPEN_SET_COLUMNS)}


def _known(by: str, name: str, known: Sequence[str], what: str) -> None:
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        raise UsageError(
            f"--sort {by}: '{name}' is not a {what}; "
            + (f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}")
        )


@dataclass(frozen=True)
class Order:
    """Which heads are listed, and in which order."""

    by: str = "auroc"
    """Metric to sort by, best first: of the mean over all sets, or ``METRIC:SET`` for ``near``, ``far`` or a set."""
    top: int | None = None
    """Number of lines of heads; by default all."""
    fold: bool = True
    """List heads that rank all rows alike on one line."""

    def __post_init__(self) -> None:
        _known(self.by, self.by.partition(":")[0], list(_COLUMNS), "metric")


class Line(NamedTuple):
    """One line of a table."""

    depth: int
    """0 for a head, 1 for a group or a set, 2 for a set of a group."""
    row: Row
    best: frozenset[str]
    """Metrics for which no other head is better on the same sets."""

    @property
    def ood(self) -> str:
        """Name of the set or of the group."""
        return printable(self.row["ood"])


@dataclass(frozen=True)
class Listing:
    """Heads in order, and what to say below them."""

    heads: list[tuple[list[str], list[Line]]]
    """Names of the heads that share the lines, and the lines; the first is the mean over the sets, or the only set."""
    total: int
    """Number of heads, listed or not."""
    sets: list[str]
    """Names of the sets."""
    groups: dict[str, list[str]] = field(default_factory=dict)
    """Names of the sets that are near and far."""

    @property
    def rows(self) -> Iterator[Row]:
        """All rows."""
        return (line.row for _, lines in self.heads for line in lines)

    def notes(self, results: Mapping[str, Any]) -> list[str]:
        """Explain the means, the marks, and which heads are not listed."""
        notes = []
        if len(self.sets) > 1:
            notes.append(f"line of a head: mean over its {len(self.sets)} sets, all with equal weight")
        notes += [
            f"{group}: mean over {', '.join(map(printable, names))}" for group, names in self.groups.items()
        ]
        if any(len(names) > 1 for names, _ in self.heads):
            notes.append(
                "=: heads that rank all rows alike; AUTC and times are those of the first (--no-fold lists each)"
            )
        rows = list(self.rows)
        if any(row.get("repeats") for row in rows):
            notes.append("xN: seeds; mean ± its standard error")
        if any(row.get("diverged") for row in rows):
            notes.append("!: training diverged; the last good state was scored")
        if any(row.get("ood_validated") for row in rows):
            notes.append("*: OOD-validated: fitted or tuned on outliers")
        if comparison := results.get("comparison"):
            from featood.report.comparison import how_made

            notes.append(f"[ ]: {how_made(comparison)}")
        if (shown := sum(len(names) for names, _ in self.heads)) < self.total:
            notes.append(f"{shown} of {self.total} heads are listed")
        return notes


def listed(results: Mapping[str, Any], order: Order = Order()) -> Listing:
    """Arrange the rows of results.

    Sets of the suites ``DATASET-near`` and ``DATASET-far`` of the in-distribution set are grouped, and each group has
    a mean of its own beside the mean over all sets. The best values are found among all heads, listed or not.

    Parameters
    ----------
    results : dict
        Content of ``featood score --json``.
    order : Order
        Which heads to list, and how to sort them. Heads without the value come last; equal ones keep their order.

    Raises
    ------
    UsageError
        If ``order.by`` is not a metric, or its set was not scored.
    """
    rows = collapsed(results)
    sets = list(dict.fromkeys(row["ood"] for row in rows))
    groups = results.get("groups", near_and_far(results["id"]["dataset"], sets))
    groups = {name: members for name, members in groups.items() if len(members) < len(sets)}
    by_group = _means(rows, groups, results.get("comparison") or {})
    heads: dict[str, list[tuple[int, Row]]] = {}
    for head, own in by_head(rows).items():
        parts = [(2 if any(row["ood"] in names for names in groups.values()) else 1, row) for row in own]
        grouped = [part for name in groups for part in _group(by_group[head], parts, name, groups[name])]
        others = [part for part in parts if part[0] == 1]
        whole = [(0, by_group[head][MEAN])] if len(own) > 1 else []
        heads[head] = whole + grouped + others if whole else [(0, own[0])]
    flat = [row for lines in heads.values() for _, row in lines]
    best: dict[int, set[str]] = {}
    for position, metric in best_cells(flat):
        best.setdefault(id(flat[position]), set()).add(metric)
    folded = _folded(heads, results) if order.fold else [[head] for head in heads]
    value = _sort_value(order.by, sets, groups)
    folded.sort(key=lambda names: value([row for _, row in heads[names[0]]]))
    entries = [
        (
            [headline(heads[name][0][1]) for name in names],
            [Line(depth, row, frozenset(best.get(id(row), ()))) for depth, row in heads[names[0]]],
        )
        for names in folded[: order.top]
    ]
    return Listing(entries, len(heads), sets, groups)


def _means(
    rows: Sequence[Row], groups: Mapping[str, Sequence[str]], comparison: Mapping[str, Any]
) -> dict[str, dict[str, Row]]:
    """Return the means of each head over all its sets and over each group, by the name of the group."""
    intervals = [*comparison.get("means", ()), *comparison.get("groups", ())]
    found: dict[str, dict[str, Row]] = {}
    for name, members in {MEAN: None, **groups}.items():
        chosen = [row for row in rows if members is None or row["ood"] in members]
        for mean in mean_rows(chosen, intervals):
            found.setdefault(mean["head"], {})[name] = {**mean, "ood": name}
    return found


def _group(
    means: Mapping[str, Row], parts: Sequence[tuple[int, Row]], name: str, members: Sequence[str]
) -> list[tuple[int, Row]]:
    """Return the mean of a group, and the sets of the group in their order."""
    of_set = {row["ood"]: (depth, row) for depth, row in parts}
    return [(1, means[name])] * (name in means) + [of_set[member] for member in members if member in of_set]


def _folded(heads: Mapping[str, Any], results: Mapping[str, Any]) -> list[list[str]]:
    """Group the heads whose scores order all rows alike; means over seeds stay alone."""
    evidence = results.get("evidence", {}).get("heads", {})
    groups: dict[str, list[str]] = {}
    for head in heads:
        digest = evidence.get(head, {}).get("ranks_sha256") or f"only {head}"
        groups.setdefault(digest, []).append(head)
    return list(groups.values())


def _sort_value(by: str, sets: Sequence[str], groups: Mapping[str, Any]) -> Callable[[Sequence[Row]], float]:
    """Return a function from the rows of a head to its key for sorting."""
    metric, _, where = by.partition(":")
    if where:
        _known(by, where, [MEAN, *groups, *sets], "set in the table")
    higher_is_better = _COLUMNS[metric].higher_is_better

    def value(rows: Sequence[Row]) -> float:
        row: Row = rows[0] if where in ("", MEAN) else next((row for row in rows if row["ood"] == where), {})
        found = row.get(metric)
        if found is None:
            return math.inf
        return -found if higher_is_better else found

    return value
