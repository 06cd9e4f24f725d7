"""The evaluation of an energy-based-model thesis: every score of a classifier's logits, and its calibration."""

from __future__ import annotations

__all__ = ["SCORES", "ThesisPlan", "ThesisTables", "evaluate_thesis", "mean_rows"]

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from featood.cache.densities import DENSITIES
from featood.cache.feature_cache import FeatureCache
from featood.cache.feature_set import FeatureSet
from featood.errors import DataError
from featood.heads import create_head
from featood.metrics import (
    accuracy,
    aupr_in,
    aupr_out,
    auroc,
    brier,
    brier_parts,
    divergence_from_uniform,
    expected_calibration_error,
    max_calibration_error,
)
from featood.numerics import dirichlet
from featood.numerics.mixtures import predictive_entropy
from featood.pipeline.fitted_heads import chosen_heads
from featood.pipeline.leakage import dataset_name, refuse_seen
from featood.pipeline.protocols.runs import Failure, Plan, evaluate_runs, find_networks, select_run, summary
from featood.pipeline.resolve import TestSets
from featood.reporter import SILENT, Reporter

SCORES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "confidence_alea_uncert.": lambda logits: -dirichlet.max_probability(_alpha(logits)),
    "entropy_of_expected": lambda logits: predictive_entropy([_alpha(logits)]),
    "expected_entropy": lambda logits: dirichlet.expected_entropy(_alpha(logits)),
    "mutual_information": lambda logits: dirichlet.mutual_information(_alpha(logits)),
    "EPKL": lambda logits: dirichlet.expected_pairwise_divergence(_alpha(logits)),
    "differential_entropy": lambda logits: dirichlet.differential_entropy(_alpha(logits)),
    "p(x)": lambda logits: -logits.logsumexp(1),
    "max p(y|x)": lambda logits: -logits.log_softmax(1).amax(1),
}
"""Scores of logits ``[B, C]`` by their names in the original's tables; here higher means more out-of-distribution."""
BINS = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class ThesisPlan(Plan):
    """How to evaluate."""

    heads: Sequence[str] = ()
    """Fitted heads to score as well; each run must have them."""
    max_eval: int = 10_000
    """Most rows of a set: the first ones, as many of the in-distribution set as of the other (0: all rows of both)."""
    classification: bool = True
    """Also evaluate accuracy and calibration."""
    ood_calibration: bool = True
    """Also evaluate the divergence of the predictions on OOD rows from the uniform distribution."""


class ThesisTables(NamedTuple):
    """Rows of the two tables, one value per row, and the runs that failed."""

    ood: list[dict[str, Any]]
    """``Model``, ``Model Type``, ``ID dataset``, ``OOD dataset``, ``Score``, ``Metric``, ``Value``."""
    classification: list[dict[str, Any]]
    """``Model``, ``Model Type``, ``ID dataset``, ``OOD dataset``, ``Metric``, ``Value``."""
    failed: list[Failure]


def evaluate_thesis(
    cache: FeatureCache, networks: Sequence[str], plan: ThesisPlan, *, reporter: Reporter = SILENT
) -> ThesisTables:
    """Evaluate every score of the logits, and accuracy and calibration, of several runs.

    Of networks without logits that are densities, such as flows, the score is ``p(x)``.

    The metrics are AUROC and AUPR, with ID as the positive class, and iAUROC and iAUPR, with OOD as the positive class,
    all in percent. Calibration errors have 10 bins, and the parts of the Brier score are those of
    :func:`featood.metrics.brier_parts`. The concentrations of the Dirichlet scores are ``exp(logits) + 1``.

    Parameters
    ----------
    cache : FeatureCache
        Contains the features of the runs; sets to score against are extracted if they are missing.
    networks : sequence of str
        See :func:`featood.pipeline.protocols.runs.find_networks`.
    plan : ThesisPlan
    reporter : Reporter
        Receives a line about each choice, and about each run that fails.

    Raises
    ------
    DataError
        If no run can be evaluated.
    """
    tables = ThesisTables([], [], [])
    for network in find_networks(cache, networks, plan.dataset):

        def evaluate(run: str, kind: str = network.name) -> ThesisTables:
            return _evaluate_run(cache, run, kind, plan, reporter)

        done, failed = evaluate_runs(network.runs, evaluate, reporter)
        tables.failed.extend(failed)
        for found in done.values():
            tables.ood.extend(found.ood)
            tables.classification.extend(found.classification)
    if not tables.ood:
        raise DataError(f"no run could be evaluated; {tables.failed[0].run}: {tables.failed[0].reason}")
    return tables


def mean_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each network, score and set of a table, with means over the runs and standard errors.

    The columns are ``network``, ``score``, ``ood``, ``runs``, and each metric and its standard error ``NAME_se``.
    """
    groups: dict[tuple[str, ...], dict[str, list[float]]] = {}
    for row in rows:
        key = (row["Model Type"], row.get("Score", ""), row["OOD dataset"])
        groups.setdefault(key, {}).setdefault(row["Metric"], []).append(row["Value"])
    found = []
    for (network, score, ood), columns in groups.items():
        moments = summary(
            [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        )
        body: dict[str, Any] = {"network": network, "score": score, "ood": ood}
        body["runs"] = len(next(iter(columns.values())))
        for metric, mean in moments["mean"].items():
            body[metric], body[f"{metric}_se"] = mean, moments["standard_error"][metric]
        found.append(body)
    return found


def _evaluate_run(
    cache: FeatureCache, run: str, kind: str, plan: ThesisPlan, reporter: Reporter
) -> ThesisTables:
    selection, sets = select_run(cache, run, plan, reporter)
    facts = {"Model": run, "Model Type": kind, "ID dataset": dataset_name(sets.test)}
    heads = chosen_heads(selection, plan.heads, reporter)[0] if plan.heads else {}
    functions: dict[str, Callable[[FeatureSet], np.ndarray]] = {}
    classifies = sets.test.logits is not None
    if classifies:
        functions |= {
            name: lambda features, score=score: score(_logits(features)).numpy()  # type: ignore[misc]
            for name, score in SCORES.items()
        }
    elif any(column in sets.test.features for column in DENSITIES):
        functions["p(x)"] = create_head("likelihood").score
    for name in heads:
        refuse_seen(name, heads[name], sets.outliers)
        functions[name] = heads[name].score
    if not functions:
        raise DataError(f"{sets.test.name} has neither logits nor a density; name fitted heads to score with")
    ood = [
        {**facts, "OOD dataset": outlier, "Score": name, "Metric": metric, "Value": 100 * value}
        for name, function in functions.items()
        for outlier, metric, value in _detection(function, sets, plan.max_eval)
    ]
    labelled = classifies and sets.test.labels is not None
    found = _classification(sets.test) if plan.classification and labelled else {}
    rows = [{**facts, "OOD dataset": "", "Metric": name, "Value": value} for name, value in found.items()]
    if plan.ood_calibration and classifies:
        rows += [
            {**facts, "OOD dataset": outlier, "Metric": "KL to uniform", "Value": divergence_from_uniform(_logits(odd))}
            for outlier, odd in sets.outliers.items()
        ]  # fmt: skip
    return ThesisTables(ood, rows, [])


def _detection(
    function: Callable[[FeatureSet], np.ndarray], sets: TestSets, most: int
) -> Iterator[tuple[str, str, float]]:
    """Yield set, metric and value."""
    id_scores = np.asarray(function(sets.test))
    for name, outliers in sets.outliers.items():
        ood_scores = np.asarray(function(outliers))
        size = min(len(id_scores), len(ood_scores), most) if most else max(len(id_scores), len(ood_scores))
        inside, outside = id_scores[:size], ood_scores[:size]
        area = auroc(inside, outside)
        values = {
            "AUROC": area, "AUPR": aupr_in(inside, outside), "iAUROC": area, "iAUPR": aupr_out(inside, outside)
        }  # fmt: skip
        yield from ((name, metric, value) for metric, value in values.items())


def _classification(test: FeatureSet) -> dict[str, float]:
    logits, labels = _logits(test), np.asarray(test.labels[:])  # type: ignore[index]
    parts = brier_parts(logits, labels)
    return {
        "Accuracy": accuracy(logits, labels),
        "ECE": expected_calibration_error(logits, labels, BINS),
        "MCE": max_calibration_error(logits, labels, BINS),
        "Brier": brier(logits, labels),
        "Brier reliability": parts.reliability,
        "Brier resolution": parts.resolution,
        "Brier uncertainty": parts.uncertainty,
    }


def _alpha(logits: Tensor) -> Tensor:
    return dirichlet.concentrations(logits, prior=1.0)


def _logits(features: FeatureSet) -> Tensor:
    if features.logits is None:
        raise DataError(f"{features.name} has no logits")
    return torch.from_numpy(np.array(features.logits[:], dtype="f8"))
