"""The evaluation of Mukhoti et al., Deep Deterministic Uncertainty: A New Simple Baseline, CVPR 2023."""

from __future__ import annotations

__all__ = ["DDUEvaluation", "DDUPlan", "ddu_rows", "evaluate_ddu"]

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from featood.cache.feature_cache import FeatureCache
from featood.cache.feature_set import FeatureSet
from featood.cache.manifest import library_versions
from featood.errors import DataError, UsageError
from featood.pipeline.leakage import dataset_name
from featood.pipeline.protocols.ddu_scores import COMPUTE, KINDS, Results
from featood.pipeline.protocols.runs import (
    Failure,
    Network,
    Plan,
    RunSets,
    evaluate_runs,
    find_networks,
    in_all,
    open_run,
    summary,
)
from featood.reporter import SILENT, Reporter


@dataclasses.dataclass(frozen=True, kw_only=True)
class DDUPlan(Plan):
    """How to evaluate."""

    kinds: Sequence[str] = ()
    """Out of `KINDS`; by default all, the ensemble only if there are enough runs."""
    members: int = 5
    """Number of networks of an ensemble."""
    bins: int = 15
    """Bins of the expected calibration error."""
    validation: float = 0.1
    """Share of the training rows to hold out for the temperature, if the network's own are unknown."""
    seed: int = 0
    """Seed of that draw."""


class DDUEvaluation(NamedTuple):
    """Results of one network and kind of model on one out-of-distribution set."""

    network: str
    kind: str
    dataset: str
    ood: str
    results: Mapping[str, Any]
    """``mean``, ``standard_error`` and ``values`` by metric, and ``info``."""

    @property
    def file(self) -> str:
        """Name of the published file with these results."""
        return f"res_{self.network}_{self.kind}_{self.dataset}_{self.ood}.json"


def evaluate_ddu(
    cache: FeatureCache, networks: Sequence[str], plan: DDUPlan, *, reporter: Reporter = SILENT
) -> list[DDUEvaluation]:
    """Evaluate softmax entropy, energy, the density of the features, and ensembles, over several runs.

    Each run's temperature minimises the NLL of its held-out rows, its density is fitted on the rows that it was
    trained on, and accuracy and calibration are those of its softmax. In an ensemble every member has its own
    temperature.

    The metrics are ``accuracy``, ``ece``, ``m1_auroc``, ``m1_auprc``, ``m2_auroc`` and ``m2_auprc``, with m1 and m2 as
    in `KINDS`, and with the prefix ``t_`` those at the temperature, which are the same for the density. In ``m1_auprc``
    of softmax and gmm the positive class is ID, otherwise OOD. The published files call the standard error ``std``; the
    published code finds the temperature on a grid of step 0.1.

    Parameters
    ----------
    cache : FeatureCache
        Contains the features of the runs; sets to score against are extracted if they are missing.
    networks : sequence of str
        See :func:`featood.pipeline.protocols.runs.find_networks`.
    plan : DDUPlan
    reporter : Reporter
        Receives a line about each choice, and the number of finished runs.

    Raises
    ------
    DataError
        If no run of a network can be evaluated.
    UsageError
        If a kind is unknown, or has fewer runs than an ensemble has members.
    """
    if unknown := sorted(set(plan.kinds) - KINDS.keys()):
        raise UsageError(f"there is no kind '{unknown[0]}' (there are: {', '.join(KINDS)})")
    found: list[DDUEvaluation] = []
    for network in find_networks(cache, networks, plan.dataset):
        found += _evaluate_network(cache, network, plan, reporter)
    return found


def ddu_rows(evaluations: Iterable[DDUEvaluation]) -> list[dict[str, Any]]:
    """Return one row per score and out-of-distribution set, with means and standard errors (``NAME_se``)."""
    rows = []
    for network, kind, dataset, ood, results in evaluations:
        for measure, score in (("m1", KINDS[kind].m1), ("m2", KINDS[kind].m2)):
            row: dict[str, Any] = {
                "network": network,
                "kind": kind,
                "score": score,
                "dataset": dataset,
                "ood": ood,
            }
            row |= {"runs": len(results["info"]["runs"]), "failed": len(results["info"]["failed"])}
            names = {name: name for name in ("accuracy", "ece", "t_ece")}
            for prefix in ("", "t_"):
                names |= {f"{prefix}{name}": f"{prefix}{measure}_{name}" for name in ("auroc", "auprc")}
            for name, key in names.items():
                row[name], row[f"{name}_se"] = results["mean"][key], results["standard_error"][key]
            rows.append(row)
    return rows


def _evaluate_network(
    cache: FeatureCache, network: Network, plan: DDUPlan, reporter: Reporter
) -> list[DDUEvaluation]:
    @functools.cache
    def sets(run: str) -> RunSets:
        return open_run(
            cache, run, plan, share=plan.validation, seed=plan.seed, reporter=reporter,
        )  # fmt: skip

    evaluations: list[DDUEvaluation] = []
    for kind in plan.kinds or KINDS:
        units = _units(network, kind, plan, reporter)
        if not units:
            continue

        def evaluate(unit: str, kind: str = kind, units: Mapping[str, Sequence[str]] = units) -> Results:
            return COMPUTE[kind]([sets(run) for run in units[unit]], plan.bins)

        done, failed = evaluate_runs(units, evaluate, reporter)
        if not done:
            raise DataError(f"{network.name}: no {kind} could be evaluated: {failed[0].reason}")
        test = sets(next(run for unit in done for run in units[unit])).test
        evaluations += _collected(network, kind, test, done, failed, plan)
    return evaluations


def _units(network: Network, kind: str, plan: DDUPlan, reporter: Reporter) -> dict[str, tuple[str, ...]]:
    """Return the runs that are evaluated together: the members of each ensemble, or single runs."""
    size, runs = plan.members if kind == "ensemble" else 1, network.runs
    units = [runs[start : start + size] for start in range(0, len(runs) - size + 1, size)]
    if not units:
        what = f"{network.name} has {len(runs)} runs, too few for an ensemble of {size}"
        if plan.kinds:
            raise UsageError(f"{what}; set --members")
        reporter.line(f"{what}, which is left out")
    elif unused := len(runs) % size:
        reporter.line(f"{network.name}: {unused} of {len(runs)} runs are in no ensemble of {size}")
    return {" + ".join(unit): unit for unit in units}


def _collected(
    network: Network, kind: str, test: FeatureSet, done: Mapping[str, Results], failed: Sequence[Failure],
    plan: DDUPlan,
) -> list[DDUEvaluation]:  # fmt: skip
    dataset = dataset_name(test)
    info = {
        "scores": KINDS[kind]._asdict(),
        "runs": list(done),
        "failed": [failure._asdict() for failure in failed],
        **{key: [results.info[key] for results in done.values()] for key in next(iter(done.values())).info},
        "bins": plan.bins,
        "test_rows": len(test),
        "versions": library_versions(),
    }
    names = in_all(results.metrics for results in done.values())
    return [
        DDUEvaluation(
            network.name, kind, dataset, ood,
            {**summary(results.metrics[ood] for results in done.values()), "info": info},
        )
        for ood in names
    ]  # fmt: skip
