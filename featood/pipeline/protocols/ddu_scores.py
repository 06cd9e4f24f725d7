"""Scores of a deterministic network, of the density of its features, and of ensembles, as DDU compares them."""

from __future__ import annotations

__all__ = ["COMPUTE", "KINDS", "Kind", "Results"]

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.errors import DataError
from featood.heads.base.asking import ask
from featood.heads.registry import create_head
from featood.metrics import accuracy, aupr_in, aupr_out, auroc, expected_calibration_error
from featood.numerics.mixtures import mean_log_probabilities, mutual_information, predictive_entropy
from featood.pipeline.ensembles import aligned_logits
from featood.pipeline.protocols.runs import RunSets, in_all


class Kind(NamedTuple):
    """The two scores of a kind of model, which the published files call m1 and m2."""

    m1: str
    m2: str
    m1_is_confidence: bool
    """Whether ID is the positive class in the precision of m1 (in that of m2 it is OOD)."""


KINDS: Mapping[str, Kind] = {
    "softmax": Kind("energy", "softmax entropy", True),
    "gmm": Kind("GMM density", "GMM class entropy", True),
    "ensemble": Kind("mutual information", "predictive entropy", False),
}


class Results(NamedTuple):
    """Results of one run or ensemble."""

    metrics: dict[str, dict[str, float]]
    """By out-of-distribution set and name."""
    info: dict[str, Any]
    """Temperatures, ridge, and how the training rows were divided."""


def _softmax(members: Sequence[RunSets], bins: int) -> Results:
    """Energy and entropy of the softmax, at temperature 1 and at the fitted one."""
    (sets,) = members
    temperature = _temperature(sets)

    def both(features: FeatureSet) -> tuple[list[Tensor], list[Tensor]]:
        logits = _logits(features)
        return _energy_and_entropy(logits), _energy_and_entropy(logits / temperature)

    metrics = _compared("softmax", both(sets.test), {name: both(ood) for name, ood in sets.outliers.items()})
    logits = _logits(sets.test)
    return _results(metrics, sets, logits, logits / temperature, bins, {"temperature": temperature})


def _gmm(members: Sequence[RunSets], bins: int) -> Results:
    """Density of the features, and entropy of its classes; accuracy and calibration are those of the softmax."""
    (sets,) = members
    temperature = _temperature(sets)
    head = create_head("gmm").fit(sets.trained_on)
    scores = [head, ask(head, "entropy")]

    def both(features: FeatureSet) -> tuple[list[Tensor], list[Tensor]]:
        values = [torch.as_tensor(score.score(features)) for score in scores]
        return values, values

    metrics = _compared("gmm", both(sets.test), {name: both(ood) for name, ood in sets.outliers.items()})
    logits = _logits(sets.test)
    facts = {"temperature": temperature, "ridge": float(head.state["ridge"])}
    return _results(metrics, sets, logits, logits / temperature, bins, facts)


def _ensemble(members: Sequence[RunSets], bins: int) -> Results:
    """Mutual information and predictive entropy of several networks, each with its own temperature too."""
    first = members[0]
    temperatures = [_temperature(sets) for sets in members]

    def draws(features: Sequence[FeatureSet]) -> tuple[list[Tensor], list[Tensor]]:
        logits = [torch.from_numpy(np.array(aligned_logits(features[0], other)[:])) for other in features]
        return logits, [values / t for values, t in zip(logits, temperatures, strict=True)]

    def both(features: Sequence[FeatureSet]) -> tuple[list[Tensor], list[Tensor]]:
        plain, scaled = (
            [mutual_information(values), predictive_entropy(values)] for values in draws(features)
        )
        return plain, scaled

    test, names = [sets.test for sets in members], in_all(sets.outliers for sets in members)
    outliers = {name: both([sets.outliers[name] for sets in members]) for name in names}
    metrics = _compared("ensemble", both(test), outliers)
    plain, scaled = map(mean_log_probabilities, draws(test))
    return _results(metrics, first, plain, scaled, bins, {"temperature": temperatures})


def _results(
    metrics: dict[str, dict[str, float]], sets: RunSets, logits: Tensor, scaled: Tensor, bins: int,
    info: dict[str, Any],
) -> Results:  # fmt: skip
    """Add accuracy and calibration to the metrics of each set."""
    if sets.test.labels is None:
        raise DataError(f"{sets.test.name} has no labels, which accuracy and calibration need")
    labels = np.asarray(sets.test.labels[:])
    shared = {
        "accuracy": accuracy(logits, labels),
        "ece": expected_calibration_error(logits, labels, bins),
        "t_ece": expected_calibration_error(scaled, labels, bins),
    }
    return Results({ood: shared | values for ood, values in metrics.items()}, info | {"rows": sets.origin})


def _compared(
    kind: str,
    test: tuple[list[Tensor], list[Tensor]],
    outliers: Mapping[str, tuple[list[Tensor], list[Tensor]]],
) -> dict[str, dict[str, float]]:
    """Return AUROC and AUPRC of m1 and m2, and of their copies at the temperature, by set."""
    positives = (aupr_in if KINDS[kind].m1_is_confidence else aupr_out, aupr_out)
    return {
        ood: {
            f"{prefix}{name}_{metric}": function(id_scores, ood_scores)
            for prefix, ids, odds in zip(("", "t_"), test, scores, strict=True)
            for name, id_scores, ood_scores, auprc in zip(("m1", "m2"), ids, odds, positives, strict=True)
            for metric, function in (("auroc", auroc), ("auprc", auprc))
        }
        for ood, scores in outliers.items()
    }


def _energy_and_entropy(logits: Tensor) -> list[Tensor]:
    return [-logits.logsumexp(1), predictive_entropy([logits])]


def _temperature(sets: RunSets) -> float:
    """Return the temperature that minimises the NLL of the held-out rows."""
    return float(create_head("temperature-scaling").fit(sets.held_out).state["temperature"])


def _logits(features: FeatureSet) -> Tensor:
    if features.logits is None:
        raise DataError(f"{features.name} has no logits")
    return torch.from_numpy(np.array(features.logits[:], dtype="f8"))


COMPUTE: Mapping[str, Callable[[Sequence[RunSets], int], Results]] = {
    "softmax": _softmax, "gmm": _gmm, "ensemble": _ensemble,
}  # fmt: skip
"""From the runs, and the number of calibration bins, to the results of each kind."""
