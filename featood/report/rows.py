"""Columns of result rows, means over OOD sets, the best values of each set, and their formatting."""

from __future__ import annotations

__all__ = [
    "MEAN",
    "METRIC_COLUMNS",
    "OPEN_SET_COLUMNS",
    "MetricColumn",
    "Row",
    "best_cells",
    "by_head",
    "cell",
    "collapsed",
    "headline",
    "interval",
    "least_accurate",
    "mean_rows",
    "percent",
    "printable",
    "with_means",
]

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from featood.metrics import LOWER_IS_BETTER

Row = Mapping[str, Any]
"""A result row, or the mean of several."""

MEAN = "mean"
"""Name of the OOD set in mean rows."""


class MetricColumn(NamedTuple):
    """A metric of a result row: its key, its title, and whether higher is better."""

    key: str
    title: str
    higher_is_better: bool


METRIC_COLUMNS = tuple(
    MetricColumn(key, title, key not in LOWER_IS_BETTER)
    for key, title in (
        ("auroc", "AUROC"),
        ("aupr_in", "AUPR-in"),
        ("aupr_out", "AUPR-out"),
        ("fpr95", "FPR95"),
        ("fpr95_ood", "FPR95-ood"),
        ("detection_error", "det. err"),
        ("autc", "AUTC"),
    )
)
OPEN_SET_COLUMNS = (
    MetricColumn("f1_macro", "macro F1", True),
    MetricColumn("cauroc", "CAUROC", True),
    MetricColumn("oscr", "OSCR", True),
    MetricColumn("ccr_fpr10", "CCR@FPR10", True),
    MetricColumn("aurra", "AURRA", True),
)
"""Metrics of rows with predicted classes whose ID set has labels."""


_FURTHER = ("f1_macro_best", "ccr_fpr1", "auroc_macro", "fit_s", "score_s")
"""Further values that are averaged."""


def mean_rows(rows: Iterable[Row], intervals: Iterable[Row] = ()) -> list[dict[str, Any]]:
    """Average the rows of each head over its OOD sets.

    Parameters
    ----------
    rows : iterable of dict
        Result rows, one per (head, OOD set).
    intervals : iterable of dict
        Bounds of the intervals of the means, from ``comparison["means"]`` in the results.

    Returns
    -------
    list of dict
        One row per head in order of appearance; `ood` is "mean" and `sets` lists the averaged sets. All OOD sets have
        equal weight; `n_ood` is the total. A value that is missing in a row is left out.
    """
    known = {(row["head"], frozenset(row["sets"])): row for row in intervals}
    means = []
    for head, group in by_head(rows).items():
        mean: dict[str, Any] = {"head": head, "ood": MEAN, "sets": [row["ood"] for row in group]}
        mean["n_id"] = group[0].get("n_id")
        mean["n_ood"] = sum(row.get("n_ood", 0) for row in group)
        columns = (*METRIC_COLUMNS, *OPEN_SET_COLUMNS)
        for key in (*(column.key for column in columns), *_FURTHER):
            values = [row[key] for row in group if row.get(key) is not None]
            if len(values) == len(group):
                mean[key] = math.fsum(values) / len(values)
        seeds = group[0].get("repeats", 0)
        if seeds and all(row.get("repeats") == seeds for row in group):
            from featood.metrics import mean_and_error

            mean["repeats"] = seeds
            for key in (column.key for column in METRIC_COLUMNS):
                by_seed = zip(*(row["values"][key] for row in group), strict=True)
                averages = [math.fsum(values) / len(values) for values in by_seed]
                mean[f"{key}_se"] = mean_and_error(averages)[1]
        mean |= {
            key: value
            for key, value in known.get((head, frozenset(mean["sets"])), {}).items()
            if key not in mean
        }
        means.append(mean)
    return means


def collapsed(results: Mapping[str, Any]) -> list[Row]:
    """Return the rows of results; rows of a head scored with several seeds are replaced by their mean."""
    repeats = {(row["head"], row["ood"]): row for row in results.get("repeats", ())}
    members = {label: row for row in repeats.values() for label in row["labels"]}
    rows: list[Row] = []
    for row in results["rows"]:
        group = members.get(row["head"])
        merged = row if group is None else repeats.pop((group["head"], row["ood"]), None)
        if merged is not None:
            rows.append(merged)
    return rows


def with_means(rows: Sequence[Row], intervals: Sequence[Row] = ()) -> list[Row]:
    """Sort rows by head, and append the mean row to each head with several OOD sets; see `mean_rows`."""
    ordered: list[Row] = []
    for group, mean in zip(by_head(rows).values(), mean_rows(rows, intervals), strict=True):
        ordered += [*group, mean] if len(group) > 1 else group
    return ordered


def best_cells(rows: Sequence[Row]) -> set[tuple[int, str]]:
    """Find the best value of each metric among the heads scored on the same OOD set.

    Means are compared only with means over the same sets. Values that are equal when printed are equally good; a
    single row has no best value.

    Returns
    -------
    set of (int, str)
        Positions in `rows` and metric keys.
    """
    groups: dict[tuple[str, frozenset[str]], list[int]] = {}
    for index, row in enumerate(rows):
        groups.setdefault((row["ood"], frozenset(row.get("sets", ()))), []).append(index)
    best = set()
    for indices in (group for group in groups.values() if len(group) > 1):
        for key, _, higher_is_better in (*METRIC_COLUMNS, *OPEN_SET_COLUMNS):
            values = {i: round(rows[i][key], 4) for i in indices if rows[i].get(key) is not None}
            top = (max if higher_is_better else min)(values.values(), default=None)
            best |= {(i, key) for i, value in values.items() if value == top}
    return best


def percent(fraction: float | None) -> str:
    """Format a fraction as a percentage with two decimals, without the percent sign; None as "-"."""
    return "-" if fraction is None else f"{100 * fraction:.2f}"


def cell(row: Row, key: str) -> str:
    """Format a metric of a row as a percentage, with its interval or the standard error over seeds."""
    error = row.get(f"{key}_se")
    if error is not None:
        return f"{percent(row.get(key))} ±{percent(error)}"
    return percent(row.get(key)) + interval(row, key)


def interval(row: Row, key: str) -> str:
    """Format the bounds of a metric's interval, `` [90.81, 91.62]``; an empty string if there is none."""
    low, high = row.get(f"{key}_low"), row.get(f"{key}_high")
    return "" if low is None or high is None else f" [{percent(low)}, {percent(high)}]"


def headline(row: Row) -> str:
    """Return the name of a head with marks for several seeds, a diverged training, and the use of outliers."""
    name = printable(row["head"])
    if seeds := row.get("repeats"):
        name += f" x{seeds}"
    return name + ("!" if row.get("diverged") else "") + ("*" if row.get("ood_validated") else "")


def least_accurate(classes: Sequence[Row], most: int = 30) -> Sequence[Row]:
    """Return all classes if there are at most `most`, otherwise those with the lowest accuracy."""
    if len(classes) <= most:
        return classes
    return sorted(classes, key=lambda row: row.get("accuracy", 0.0))[:most]


def printable(name: object) -> str:
    """Return a name as one line of text; control characters, unsafe in a terminal or an SVG, become "?"."""
    return "".join(char if char.isprintable() else "?" for char in str(name))


def by_head(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Group rows by head, in the order of their first row."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row["head"], []).append(row)
    return groups
