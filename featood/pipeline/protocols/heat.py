"""The evaluation of Lafon et al., Hybrid Energy Based Model in the Feature Space, ICML 2023."""

from __future__ import annotations

__all__ = ["AVERAGE", "HEATPlan", "evaluate_heat"]

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from featood.cache.feature_cache import FeatureCache
from featood.errors import DataError
from featood.heads.base.head import Head
from featood.heads.compositions.compose import compose
from featood.pipeline.protocols.runs import (
    Failure,
    Plan,
    columns_of,
    evaluate_runs,
    find_networks,
    in_all,
    select_run,
)
from featood.pipeline.scoring import score
from featood.pipeline.scoring_all import AllHeads
from featood.reporter import SILENT, Reporter

AVERAGE = "average"
METRICS = ("fpr95", "auroc")


@dataclasses.dataclass(frozen=True, kw_only=True)
class HEATPlan(Plan):
    """How to evaluate."""

    scorers: Sequence[str] = ("heat-gmm", "heat-gmm-std", "heat-el")
    """Heads to evaluate; those that a run does not have are fitted and saved."""
    combine: Sequence[str] = ("heat-gmm", "heat-gmm-std", "heat-el")
    """Heads to compose; empty for no composition."""
    betas: Sequence[float] = (0.0,)
    """Parameters of the composition, which is evaluated with each."""
    combine_only: bool = False
    """Evaluate only the compositions."""


def evaluate_heat(
    cache: FeatureCache, networks: Sequence[str], plan: HEATPlan, *, reporter: Reporter = SILENT
) -> tuple[list[dict[str, Any]], list[Failure]]:
    """Evaluate HEAT's heads, their compositions, and others, over several runs.

    Parameters
    ----------
    cache : FeatureCache
        Contains the features of the runs; sets to score against are extracted, and heads are fitted, if they are
        missing.
    networks : sequence of str
        See :func:`featood.pipeline.protocols.runs.find_networks`.
    plan : HEATPlan
    reporter : Reporter
        Receives a line about each choice, and the progress.

    Returns
    -------
    rows : list of dict
        ``network``, ``scorer``, ``ood`` (a set, or `AVERAGE` of all), ``runs``, mean and standard error of
        ``fpr95`` and ``auroc`` over the runs, and their ``values``.
    failed : list of Failure
        The runs that could not be evaluated.

    Raises
    ------
    DataError
        If no run of a network can be evaluated.
    """
    rows: list[dict[str, Any]] = []
    failures: list[Failure] = []
    for network in find_networks(cache, networks, plan.dataset):

        def evaluate(run: str) -> dict[tuple[str, str], dict[str, float]]:
            return _evaluate_run(cache, run, plan, reporter)

        done, failed = evaluate_runs(network.runs, evaluate, reporter)
        if not done:
            raise DataError(f"no run of {network.name} could be evaluated: {failed[0].reason}")
        failures += failed
        for scorer, ood in in_all(done.values()):
            found = [results[scorer, ood] for results in done.values()]
            row: dict[str, Any] = {"network": network.name, "scorer": scorer, "ood": ood, "runs": len(done)}
            rows.append(row | columns_of(found))
    return rows, failures


def _evaluate_run(
    cache: FeatureCache, run: str, plan: HEATPlan, reporter: Reporter
) -> dict[tuple[str, str], dict[str, float]]:
    """Return the metrics of a run by scorer and set."""
    selection, sets = select_run(cache, run, plan, reporter)
    heads = AllHeads(selection, training=True, reporter=reporter)
    scorers: dict[str, Head] = (
        {} if plan.combine_only and plan.combine else {name: heads[name] for name in plan.scorers}
    )
    if plan.combine:
        members = [scorers[name] if name in scorers else heads[name] for name in plan.combine]
        train = selection.open(selection.train_split())
        scorers |= {_label(beta): compose(members, train, beta=beta) for beta in plan.betas}
    rows = score(scorers, sets.test, sets.outliers, reporter=reporter).results["rows"]
    return dict(_with_average(rows))


def _with_average(
    rows: Sequence[Mapping[str, Any]],
) -> Iterator[tuple[tuple[str, str], dict[str, float]]]:
    by_scorer: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_scorer.setdefault(row["head"], []).append(row)
    for scorer, found in by_scorer.items():
        for row in found:
            yield (scorer, row["ood"]), {metric: row[metric] for metric in METRICS}
        mean = {metric: sum(row[metric] for row in found) / len(found) for metric in METRICS}
        yield (scorer, AVERAGE), mean


def _label(beta: float) -> str:
    return "heat" if beta == 0 else f"heat beta={beta:g}"
