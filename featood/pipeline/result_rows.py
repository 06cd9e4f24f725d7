"""Result rows: the metrics of one head on one out-of-distribution set."""

from __future__ import annotations

__all__ = ["HeadScores", "ResultRow", "id_facts", "predicted_classes", "score_head", "split_name"]

import dataclasses
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from featood.cache.feature_set import FeatureSet
from featood.heads.base.head import Head
from featood.metrics import (
    auroc_macro,
    aurra,
    binomial_interval,
    class_table,
    classification_metrics,
    detection_metrics,
    open_set_metrics,
)
from featood.pipeline.leakage import dataset_name, refuse_seen, seen_outliers


@dataclasses.dataclass(frozen=True)
class ResultRow:
    """The results of one head on one out-of-distribution set."""

    head: str
    """Label of the head."""
    ood: str
    """Name of the out-of-distribution set."""
    split: str
    n_id: int
    n_ood: int
    metrics: Mapping[str, float]
    """Metrics by name: of detection, and, if there are labels, of open-set recognition and classification."""
    fit_s: float
    """Duration of the fit in seconds."""
    score_s: float
    """Duration of scoring both sets in seconds."""
    which: str | None = None
    """Name of the score, for heads that have several."""
    diverged: bool = False
    """Whether the head's training returned to an earlier state."""
    ood_validated: str = ""
    """Out-of-distribution sets that the head was fitted or tuned on, comma-separated."""
    intervals: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Bounds of the metrics' intervals, ``NAME_low`` and ``NAME_high``."""

    def as_json(self) -> dict[str, Any]:
        """Return the row as written by ``--json`` and ``--csv``."""
        body = {name: getattr(self, name) for name in ("head", "ood", "split", "n_id", "n_ood")}
        body |= {**self.metrics, "fit_s": self.fit_s, "score_s": self.score_s}
        if self.which is not None:
            body["which"] = self.which
        if self.diverged:
            body["diverged"] = True
        if self.ood_validated:
            body["ood_validated"] = self.ood_validated
        return {**body, **self.intervals}


class HeadScores(NamedTuple):
    """Results of one head on all sets, the in-distribution set first."""

    scores: dict[str, np.ndarray]
    """Scores ``[N]`` by set."""
    classes: dict[str, np.ndarray | None]
    """Predicted classes ``[N]`` by set: of the head if it is a classifier, otherwise of the backbone."""
    rows: list[ResultRow]
    """One row per out-of-distribution set."""


def score_head(
    label: str,
    head: Head,
    sets: Mapping[str, FeatureSet],
    backbone: Mapping[str, np.ndarray | None],
    *,
    force: bool = False,
) -> HeadScores:
    """Score every set with one head, and compute its metrics.

    Parameters
    ----------
    label : str
        Name of the head in the results.
    head : Head
        A fitted head.
    sets : mapping of str to FeatureSet
        The sets by name, the in-distribution set first.
    backbone : mapping of str to array
        Classes ``[N]`` predicted by the backbone, by set; None if the set has no logits.
    force : bool
        See :func:`featood.pipeline.scoring.score`.
    """
    (id_name, test), *others = sets.items()
    outliers = dict(others)
    if not force:
        refuse_seen(label, head, outliers)
    scores: dict[str, np.ndarray] = {}
    seconds: dict[str, float] = {}
    own: dict[str, float] = {}
    classes = dict(backbone)
    for name, features in sets.items():
        start = time.perf_counter()
        scores[name] = np.asarray(head.score(features, force=force))
        seconds[name] = time.perf_counter() - start
        if (logits := head.classify(features, force=force)) is not None:
            numbers = None if head.classes is None else head.classes.cpu().numpy()
            classes[name] = predicted_classes(logits, numbers)
            if name == id_name:
                own = _classification(logits, test, numbers)
    aurra_of_id = _aurra(scores[id_name], classes[id_name], test)
    seen = dict.fromkeys(record.on for record in seen_outliers(head))
    rows = []
    for name, features in outliers.items():
        metrics: dict[str, float] = {
            **detection_metrics(scores[id_name], scores[name]),
            **_by_ood_class(scores[id_name], scores[name], features),
            **_open_set(scores[id_name], scores[name], classes[id_name], classes[name], test),
            **aurra_of_id,
            **{key: own[key] for key in ("accuracy", "brier") if key in own},
        }
        row = ResultRow(
            label, name, split_name(features), len(test), len(features), metrics,
            fit_s=head.record.fit_seconds or 0.0, score_s=round(seconds[id_name] + seconds[name], 4),
            which=head.options.get("which"), diverged=bool(head.record.training.get("diverged")),
            ood_validated=", ".join(seen),
        )  # fmt: skip
        rows.append(row)
    return HeadScores(scores, classes, rows)


def id_facts(test: FeatureSet, predictions: np.ndarray | None, level: float | None = None) -> dict[str, Any]:
    """Return a summary of the in-distribution set: size, accuracy and classes.

    Parameters
    ----------
    test : FeatureSet
    predictions : integer array of shape [N], optional
        Predicted classes.
    level : float, optional
        Confidence level of the interval of the accuracy; by default no interval is computed.
    """
    labels = _labels(test)
    facts: dict[str, Any] = {"dataset": dataset_name(test), "split": split_name(test), "n": len(test)}
    if labels is None:
        return facts
    facts |= _classification(test.logits, test)
    if level is not None and "accuracy" in facts:
        rows = int((labels >= 0).sum())
        _, facts["accuracy_low"], facts["accuracy_high"] = binomial_interval(
            round(facts["accuracy"] * rows), rows, level
        )
    return facts | {"classes": class_table(labels, predictions, test.classes)}


def predicted_classes(logits: Any, numbers: np.ndarray | None = None) -> np.ndarray | None:
    """Return the predicted classes ``[N]``; `numbers` are the classes of the columns, by default 0 to C - 1."""
    if logits is None:
        return None
    columns = np.asarray(logits[:]).argmax(1)
    return columns if numbers is None else numbers[columns]


def _classification(logits: Any, features: FeatureSet, numbers: np.ndarray | None = None) -> dict[str, float]:
    if logits is None or (labels := _labels(features)) is None:
        return {}
    return classification_metrics(np.asarray(logits[:]), labels, classes=numbers)


def _open_set(
    id_scores: np.ndarray,
    ood_scores: np.ndarray,
    id_classes: np.ndarray | None,
    ood_classes: np.ndarray | None,
    test: FeatureSet,
) -> dict[str, float]:
    labels = _labels(test)
    if id_classes is None or ood_classes is None or labels is None:
        return {}
    return open_set_metrics(id_scores, ood_scores, id_classes, ood_classes, labels)


def _by_ood_class(id_scores: np.ndarray, scores: np.ndarray, features: FeatureSet) -> dict[str, float]:
    """Return the mean AUROC over the classes of an out-of-distribution set, if it has several."""
    labels = _labels(features)
    if labels is None or np.ptp(labels[labels >= 0]) == 0:
        return {}
    return {"auroc_macro": auroc_macro(id_scores, scores, labels)}


def _aurra(scores: np.ndarray, classes: np.ndarray | None, test: FeatureSet) -> dict[str, float]:
    labels = _labels(test)
    if classes is None or labels is None:
        return {}
    known = labels >= 0
    return {"aurra": aurra(scores[known], classes[known] == labels[known])}


def _labels(features: FeatureSet) -> np.ndarray | None:
    """Return the labels of a set, or None if no row has one."""
    if features.labels is None or not ((labels := np.asarray(features.labels[:])) >= 0).any():
        return None
    return labels


def split_name(features: FeatureSet) -> str:
    """Return the split of a set, or "all" if it does not come from a cache."""
    return features.origin.split if features.origin else "all"
