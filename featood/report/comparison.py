"""Text that describes which heads differ."""

from __future__ import annotations

__all__ = ["closest_tests", "comparison_lines", "how_made", "probability"]

from collections.abc import Mapping, Sequence
from typing import Any

from featood.report.rows import MEAN, printable

LISTED = 8
"""Most heads of a clique that are listed one by one."""


def how_made(comparison: Mapping[str, Any]) -> str:
    """Describe how the intervals of a comparison were computed."""
    level = f"{100 * comparison['level']:.4g} % intervals"
    if comparison["method"] == "delong":
        return f"{level} of AUROC by DeLong's variance"
    return f"{level} of {comparison['resamples']} bootstrap resamples"


def closest_tests(comparison: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the tests of the mean over the sets, or of the only set."""
    last = comparison["tests"][-1]["ood"] if comparison["tests"] else MEAN
    return [test for test in comparison["tests"] if test["ood"] == last]


def comparison_lines(results: Mapping[str, Any]) -> list[str]:
    """Describe which heads differ from the best, which differ over the sets, and what could not be tested.

    Parameters
    ----------
    results : dict
        Content of `featood score --json`; without intervals, the list is empty.
    """
    comparison = results.get("comparison")
    if not comparison:
        return []
    lines, level = [], comparison["level"]
    tests = [test for test in closest_tests(comparison) if test["metric"] == "auroc"]
    if tests:
        which = "mean AUROC" if tests[0]["ood"] == MEAN else "AUROC"
        alike = [printable(test["head"]) for test in tests if test["p_holm"] >= 1 - level]
        how = "DeLong" if comparison["method"] == "delong" else "bootstrap"
        others = ", ".join(alike) if alike else "none"
        lines.append(
            f"Best by {which}: {printable(tests[0]['best'])}. Not distinguishable from it at {100 * level:.4g} % "
            f"({how} on the same rows, Holm over all pairs): {others}."
        )
    if ranking := comparison.get("ranking"):
        sets, differ = len(ranking["sets"]), ranking["p"] < 1 - level
        lines.append(
            f"Ranks by AUROC over {sets} sets {'differ' if differ else 'do not differ'} "
            f"(Friedman, p {probability(ranking['p'])})."
        )
        if differ:
            lines.append("Cliques of heads that do not differ over the sets (Conover, Holm), by mean rank:")
            lines += [f"  {_clique(clique, ranking['mean_ranks'])}" for clique in ranking["cliques"]]
    return lines + [f"Not tested: {reason}." for reason in comparison["untested"]]


def _clique(heads: Sequence[str], ranks: Mapping[str, float]) -> str:
    """Return the heads of a clique with their mean ranks; of many that follow each other in rank, the ends."""
    shown = [f"{printable(head)} {ranks[head]:.1f}" for head in heads]
    ends = ranks[heads[0]], ranks[heads[-1]]
    if len(heads) > LISTED and sum(ends[0] <= rank <= ends[1] for rank in ranks.values()) == len(heads):
        return f"{len(heads)} heads, from {shown[0]} to {shown[-1]}"
    return ", ".join(shown)


def probability(p: float) -> str:
    """Format a p-value with its relation: ``= 0.012``, ``< 0.001``."""
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"
