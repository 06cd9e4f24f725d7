"""Results on a benchmark: means over its groups of sets, and rows in the columns of OpenOOD's leaderboard."""

from __future__ import annotations

__all__ = ["benchmark_means", "leaderboard_rows"]

import math
from collections.abc import Mapping
from typing import Any

from featood.data import Benchmark
from featood.report.rows import by_head, collapsed, mean_rows


def benchmark_means(results: Mapping[str, Any], benchmark: Benchmark) -> dict[str, dict[str, dict[str, Any]]]:
    """Average the rows of each head over the sets of each group that were scored.

    Parameters
    ----------
    results : dict
        Content of ``featood score --json``; seeds of a head are averaged.
    benchmark : Benchmark
        The benchmark that was scored.

    Returns
    -------
    dict
        By head, in descending order of the mean AUROC over the groups, and by group: a mean row, see
        :func:`featood.report.mean_rows`. A group without sets is left out.
    """
    found = {
        head: {
            group: mean_rows([row for row in rows if row["ood"] in sets])[0]
            for group, sets in benchmark.groups.items()
            if any(row["ood"] in sets for row in rows)
        }
        for head, rows in by_head(collapsed(results)).items()
    }
    return dict(
        sorted(
            found.items(),
            key=lambda item: -math.fsum(row["auroc"] for row in item[1].values()) / len(item[1]),
        )
    )


def leaderboard_rows(results: Mapping[str, Any], benchmark: Benchmark) -> list[dict[str, Any]]:
    """Return a row for each head in the columns of OpenOOD's leaderboard, in percent.

    The training is unknown here. The rank is by the first group, as on the leaderboard. The description has the version
    of the protocol, and names sets that are left out, and those with other rows than the protocol's image lists.
    """
    facts = results["id"].get("joined", results["id"])
    outliers = {row["head"]: row.get("ood_validated", "") for row in collapsed(results)}
    first = next(iter(benchmark.groups))
    means = benchmark_means(results, benchmark)
    ranked = sorted(means, key=lambda head: -means[head].get(first, {"auroc": 0.0})["auroc"])
    return [
        {
            "Rank": rank,
            "Training": "",
            "Postprocessor": head,
            **{
                f"{group.title()}-OOD AUROC": f"{100 * means[head][group]['auroc']:.2f}"
                if group in means[head]
                else ""
                for group in benchmark.groups
            },
            "ID Accuracy": "" if facts.get("accuracy") is None else f"{100 * facts['accuracy']:.2f}",
            "Outlier Data": outliers[head],
            "Model Arch.": results["backbone"],
            "Additional Description": _description(results.get("benchmark", {})),
        }
        for rank, head in enumerate(ranked, 1)
    ]


def _description(facts: Mapping[str, Any]) -> str:
    other, missing = facts.get("other_rows"), facts.get("missing")
    parts = (
        facts.get("protocol"),
        f"other rows of {', '.join(other)}" if other else "",
        f"without {', '.join(missing)}" if missing else "",
    )
    return "; ".join(filter(None, parts))
