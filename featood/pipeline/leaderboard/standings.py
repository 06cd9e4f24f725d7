"""The heads of a benchmark in order of their AUROC, with intervals and cliques."""

from __future__ import annotations

__all__ = ["LEVEL", "mean_ranks", "standings"]

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import rankdata

from featood.metrics import (
    Placements,
    cliques,
    delong_difference,
    delong_interval,
    holm,
    mean_and_error,
    placements,
    rank_heads,
)
from featood.pipeline.leaderboard.results import Fit

LEVEL = 0.95
"""Confidence level of intervals and tests."""


def standings(fits: Sequence[Fit], groups: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    """Order the heads of a benchmark, and test which differ.

    AUROC and FPR95 are means over the sets of each group, and over the groups, all with equal weight. Of a head with
    several seeds, each row has its mean placement over the seeds, so AUROC is the mean over the seeds; intervals and
    tests are about other rows, for these fits, and do not count that other seeds give other fits.

    Parameters
    ----------
    fits : sequence of Fit
        The finished fits, in which no two have the same label.
    groups : mapping of str to sequence of str
        Names of the sets that are near and far.

    Returns
    -------
    list of dict
        By head, the best first: ``head``; ``same``, others that rank all rows alike; ``seeds``, their number;
        ``auroc``, by group and ``mean``: estimate and bounds by DeLong's variance; ``fpr95``, likewise without bounds;
        ``error``, the standard error over seeds of the mean AUROC (None with one); ``cliques``, the numbers of the
        first and the last clique that contain the head; ``fit_s`` and ``score_s``, mean seconds. A clique is a maximal
        run in this order in which no two heads differ in mean AUROC (DeLong's paired test, Holm's correction over all
        pairs).
    """
    by_head: dict[str, list[Fit]] = {}
    for fit in fits:
        by_head.setdefault(fit.line["head"], []).append(fit)
    alike: dict[frozenset[str], list[str]] = {}
    for head, found in by_head.items():
        alike.setdefault(frozenset(_digest(line) for line, _ in found), []).append(head)
    placed = {heads[0]: _placements(by_head[heads[0]], groups) for heads in alike.values()}
    same = {heads[0]: heads[1:] for heads in alike.values()}
    order = sorted(placed, key=lambda head: -placed[head]["mean"].estimate)
    pairs = list(itertools.combinations(range(len(order)), 2))
    means = [placed[head]["mean"] for head in order]
    differ = np.zeros((len(order), len(order)), bool)
    corrected = holm([delong_difference(means[one], means[two], LEVEL).p for one, two in pairs])
    for (one, two), p in zip(pairs, corrected, strict=True):
        differ[one, two] = differ[two, one] = p < 1 - LEVEL
    runs = cliques(range(len(order)), differ)
    listed = []
    for position, head in enumerate(order):
        lines = [line for line, _ in by_head[head]]
        rows = [row for line in lines for row in line["rows"]]
        _, error = mean_and_error([_mean(line["rows"], "auroc", groups)["mean"] for line in lines])
        listed.append(
            {
                "head": head,
                "same": same[head],
                "seeds": len(lines),
                "auroc": {name: list(delong_interval(part, LEVEL)) for name, part in placed[head].items()},
                "fpr95": _mean(rows, "fpr95", groups),
                "error": None if math.isnan(error) else error,
                "cliques": _numbers(runs, position),
                **{key: math.fsum(row[key] for row in rows) / len(rows) for key in ("fit_s", "score_s")},
            }
        )
    return listed


def _digest(line: Mapping[str, Any]) -> str:
    (evidence,) = line["evidence"]["heads"].values()
    return evidence["ranks_sha256"]


def mean_ranks(by_benchmark: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Rank the heads that all benchmarks have by their mean AUROC on each, and average the ranks.

    Parameters
    ----------
    by_benchmark : mapping of str to list of dict
        The `standings` of each benchmark.

    Returns
    -------
    dict
        ``heads``, the best first: ``head``, ``mean_rank``, ``ranks`` and ``auroc`` by benchmark, and, if there are
        three benchmarks and heads, ``cliques`` as in `standings`, of Conover's test with Holm's correction; ``p`` is
        Friedman's, or None; ``benchmarks``, their names.
    """
    if not by_benchmark:
        return {"heads": [], "p": None, "benchmarks": []}
    values = {
        name: {head: row["auroc"]["mean"][0] for row in rows for head in (row["head"], *row["same"])}
        for name, rows in by_benchmark.items()
    }
    heads = [head for head in next(iter(values.values())) if all(head in found for found in values.values())]
    table = np.array([[found[head] for head in heads] for found in values.values()])
    ranks = rankdata(-table, axis=1)
    means = ranks.mean(0)
    order = np.argsort(means, kind="stable").tolist()
    ranking = rank_heads(table, LEVEL) if min(table.shape) >= 3 else None
    found = [
        {
            "head": heads[place],
            "mean_rank": float(means[place]),
            "ranks": dict(zip(values, ranks[:, place].tolist(), strict=True)),
            "auroc": dict(zip(values, table[:, place].tolist(), strict=True)),
            **({} if ranking is None else {"cliques": _numbers(ranking.cliques, place)}),
        }
        for place in order
    ]
    return {"heads": found, "p": None if ranking is None else ranking.p, "benchmarks": list(values)}


def _numbers(runs: Sequence[Sequence[int]], place: int) -> list[int]:
    """Return the numbers of the first and the last clique that contain a head; those between contain it, too."""
    inside = [number for number, run in enumerate(runs, 1) if place in run]
    return [inside[0], inside[-1]]


def _placements(fits: Sequence[Fit], groups: Mapping[str, Sequence[str]]) -> dict[str, Placements]:
    """Return the placements of each group and of the mean over the groups, each a mean over the seeds."""
    by_group: dict[str, Placements] = {}
    for group, names in groups.items():
        sets = [
            _over_seeds([placements(next(iter(ranks.values())), ranks[name]) for _, ranks in fits])
            for name in names
        ]
        by_group[group] = Placements.mean(sets)
    return {**by_group, "mean": Placements.mean(list(by_group.values()))}


def _over_seeds(fits: Sequence[Placements]) -> Placements:
    """Average the placements of each row on one set; unlike several sets, all fits have the same rows."""
    return Placements(np.mean([part.id for part in fits], 0), (np.mean([part.ood[0] for part in fits], 0),))


def _mean(
    rows: Sequence[Mapping[str, Any]], metric: str, groups: Mapping[str, Sequence[str]]
) -> dict[str, float]:
    """Return the mean of a metric over each group, and over the groups."""
    means = {
        group: float(np.mean([row[metric] for row in rows if row["ood"] in names]))
        for group, names in groups.items()
    }
    return {**means, "mean": math.fsum(means.values()) / len(means)}
