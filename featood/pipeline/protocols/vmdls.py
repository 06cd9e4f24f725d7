"""The evaluation of Dinari and Freifeld, Variational- and Metric-based Deep Latent Space for OOD Detection, 2022."""

from __future__ import annotations

__all__ = ["VMDLSPlan", "evaluate_vmdls"]

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from featood.cache.feature_cache import FeatureCache
from featood.cache.feature_set import FeatureSet
from featood.errors import DataError
from featood.heads.base.calibration import predicted_classes
from featood.heads.base.head import Head
from featood.heads.registry import create_head
from featood.metrics import auroc, cauroc, fpr_at_tpr_id, open_set_at, open_set_metrics
from featood.pipeline.protocols.runs import (
    Failure,
    Plan,
    columns_of,
    evaluate_runs,
    find_networks,
    in_all,
    open_run,
)
from featood.reporter import SILENT, Reporter


@dataclasses.dataclass(frozen=True, kw_only=True)
class VMDLSPlan(Plan):
    """How to evaluate."""

    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Options of the head ``vmdls``."""
    tpr: float = 0.95
    """Share of the held-out rows that the threshold accepts."""
    validation: float = 0.1
    """Share of the training rows to hold out, if the network's own are unknown."""
    seed: int = 0
    """Seed of that draw."""


def evaluate_vmdls(
    cache: FeatureCache, networks: Sequence[str], plan: VMDLSPlan, *, reporter: Reporter = SILENT
) -> tuple[list[dict[str, Any]], list[Failure]]:
    """Evaluate detection and open-set classification by the head ``vmdls``, over several runs.

    The head is fitted on the rows that the run was trained on. The threshold is the smallest score that accepts the
    share `tpr` of the rows that its training held out; the authors choose it on the test rows.

    Parameters
    ----------
    cache : FeatureCache
        Contains the features of the runs; sets to score against are extracted if they are missing.
    networks : sequence of str
        See :func:`featood.pipeline.protocols.runs.find_networks`.
    plan : VMDLSPlan
    reporter : Reporter
        Receives a line about each choice, and the number of finished runs.

    Returns
    -------
    rows : list of dict
        ``network``, ``known``, ``ood``, ``runs``, and for each metric its mean, standard error (``NAME_se``) and
        ``NAME_values``. The metrics are ``threshold``; those of :func:`featood.metrics.open_set_at`;
        ``closed_accuracy``, without rejection; ``f1_best``, at the best threshold for the test rows, which the paper
        reports; ``auroc``, ``cauroc``, and ``fpr95`` of the test rows.
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

        def evaluate(run: str) -> tuple[str, dict[str, dict[str, float]]]:
            return _evaluate_run(cache, run, plan, reporter)

        done, failed = evaluate_runs(network.runs, evaluate, reporter)
        if not done:
            raise DataError(f"no run of {network.name} could be evaluated: {failed[0].reason}")
        failures += failed
        known = next(iter(done.values()))[0]
        for ood in in_all(results for _, results in done.values()):
            row = {"network": network.name, "known": known, "ood": ood, "runs": len(done)}
            rows.append(row | columns_of(results[ood] for _, results in done.values()))
    return rows, failures


def _evaluate_run(
    cache: FeatureCache, run: str, plan: VMDLSPlan, reporter: Reporter
) -> tuple[str, dict[str, dict[str, float]]]:
    """Return the name of the known set, and the metrics of a run by out-of-distribution set."""
    sets = open_run(cache, run, plan, share=plan.validation, seed=plan.seed, reporter=reporter)
    if sets.test.labels is None:
        raise DataError(f"{sets.test.name} has no labels, which the classification needs")
    head = create_head("vmdls", **plan.options).fit(sets.trained_on)
    threshold = float(np.quantile(head.score(sets.held_out), plan.tpr, method="inverted_cdf"))
    labels = np.asarray(sets.test.labels[:])
    id_scores, id_classes = _decided(head, sets.test)
    correct = (id_classes == labels)[labels >= 0]
    metrics = {}
    for name, features in sets.outliers.items():
        ood_scores, ood_classes = _decided(head, features)
        decisions = id_scores, ood_scores, id_classes, ood_classes, labels
        metrics[name] = {
            "threshold": threshold,
            **open_set_at(threshold, *decisions),
            "closed_accuracy": float(correct.mean()),
            "f1_best": open_set_metrics(*decisions)["f1_macro_best"],
            "auroc": auroc(id_scores, ood_scores),
            "cauroc": cauroc(id_scores[labels >= 0], ood_scores, correct),
            "fpr95": fpr_at_tpr_id(id_scores, ood_scores),
        }
    return sets.test.name, metrics


def _decided(head: Head, features: FeatureSet) -> tuple[np.ndarray, np.ndarray]:
    """Return scores and predicted classes of a set."""
    numbers = None if head.classes is None else head.classes.numpy()
    classes = predicted_classes(head.classify(features), numbers)
    assert classes is not None
    return np.asarray(head.score(features)), classes
