"""Result rows: the metrics of one head on one out-of-distribution set."""

from __future__ import annotations

__all__ = ["HeadScores", "ResultRow", "id_facts", "score_head", "split_name"]

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from featood.cache.feature_set import FeatureSet
from featood.engines import LOCAL, Engine
from featood.heads.base.calibration import predicted_classes
from featood.heads.base.head import Head
from featood.metrics import (
    auroc_macro,
    aurra,
    binomial_interval,
    class_table,
    classification_metrics,
    detection_metrics,
    open_set_metrics,
    reliability_curve,
)
from featood.pipeline.leakage import refuse_seen, seen_outliers


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
    """Duration of scoring the sets in seconds."""
    which: str | None = None
    """Name of the score, for heads that have several."""
    diverged: bool = False
    """Whether the head's training returned to an earlier state."""
    ood_validated: str = ""
    """Out-of-distribution sets that the head was fitted or tuned on, comma-separated."""
    shifted: str = ""
    """Sets whose rows are counted in `n_id`, besides those of the in-distribution set, comma-separated."""
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
        if self.shifted:
            body["shifted"] = self.shifted
        return {**body, **self.intervals}


class HeadScores(NamedTuple):
    """Results of one head on all sets, the in-distribution set first."""

    scores: dict[str, np.ndarray]
    """Scores ``[N]`` by set."""
    joined: np.ndarray
    """Scores ``[N]`` of all rows that count as in-distribution."""
    classes: dict[str, np.ndarray | None]
    """Predicted classes ``[N]`` by set: of the head if it is a classifier, otherwise of the backbone."""
    rows: list[ResultRow]
    """One row per out-of-distribution set."""


def score_head(
    label: str,
    head: Head,
    inliers: Mapping[str, FeatureSet],
    outliers: Mapping[str, FeatureSet],
    backbone: Mapping[str, np.ndarray | None],
    *,
    force: bool = False,
    engine: Engine = LOCAL,
) -> HeadScores:
    """Score every set with one head, and compute its metrics.

    Every metric that depends on scores is computed on the joined rows of `inliers`; the head's own accuracy is that of
    the first.

    Parameters
    ----------
    label : str
        Name of the head in the results.
    head : Head
        A fitted head.
    inliers : mapping of str to FeatureSet
        The in-distribution set, followed by shifted sets.
    outliers : mapping of str to FeatureSet
        The out-of-distribution sets.
    backbone : mapping of str to array
        Classes ``[N]`` predicted by the backbone, by set; None if the set has no logits.
    force, engine
        See :func:`featood.pipeline.scoring.score`.
    """
    (id_name, test), *further = inliers.items()
    if not force:
        refuse_seen(label, head, {**dict(further), **outliers})
    scores: dict[str, np.ndarray] = {}
    seconds: dict[str, float] = {}
    own: dict[str, float] = {}
    classes = dict(backbone)
    for name, features in {**inliers, **outliers}.items():
        start = time.perf_counter()
        scores[name] = np.asarray(head.score(features, force=force, engine=engine))
        seconds[name] = time.perf_counter() - start
        if (logits := head.classify(features, force=force, engine=engine)) is not None:
            numbers = None if head.classes is None else head.classes.cpu().numpy()
            classes[name] = predicted_classes(logits, numbers)
            if name == id_name:
                own = _classification(logits, test, numbers)
    known = _joined(inliers, scores, classes)
    aurra_of_id = _aurra(known)
    seen = dict.fromkeys(record.on for record in seen_outliers(head))
    rows = []
    for name, features in outliers.items():
        metrics: dict[str, float] = {
            **detection_metrics(known.scores, scores[name]),
            **_by_ood_class(known.scores, scores[name], features),
            **_open_set(known, scores[name], classes[name]),
            **aurra_of_id,
            **{key: own[key] for key in ("accuracy", "brier") if key in own},
        }
        row = ResultRow(
            label, name, split_name(features), len(known.scores), len(features), metrics,
            fit_s=head.record.fit_seconds or 0.0,
            score_s=round(sum(seconds[part] for part in (*inliers, name)), 4),
            which=head.options.get("which"), diverged=bool(head.record.training.get("diverged")),
            ood_validated=", ".join(seen), shifted=", ".join(part for part, _ in further),
        )  # fmt: skip
        rows.append(row)
    return HeadScores(scores, known.scores, classes, rows)


def id_facts(
    inliers: Mapping[str, FeatureSet],
    predictions: Mapping[str, np.ndarray | None],
    level: float | None = None,
) -> dict[str, Any]:
    """Return a summary of the in-distribution set (size, accuracy, classes), and of shifted sets joined with it.

    Parameters
    ----------
    inliers : mapping of str to FeatureSet
        The in-distribution set, followed by shifted sets.
    predictions : mapping of str to array
        Predicted classes ``[N]`` by set.
    level : float, optional
        Confidence level of the intervals of accuracies; by default none are computed.

    Returns
    -------
    dict
        With shifted sets, ``shifted`` lists them, and ``joined`` has rows and accuracy of all sets together, which is
        the accuracy that OpenOOD reports.
    """
    (name, test), *further = inliers.items()
    facts = _size(name, test)
    if (labels := _labels(test)) is not None:
        facts |= _classification(test.logits, test)
        if test.logits is not None:
            facts["reliability"] = _reliability(test.logits, labels)
        if "accuracy" in facts:
            facts |= _accuracy([_correct(test, predictions[name])], level)
        facts["classes"] = class_table(labels, predictions[name], test.classes)
    if further:
        correct = {part: _correct(features, predictions[part]) for part, features in inliers.items()}
        facts["shifted"] = [
            {**_size(part, features), **_accuracy([correct[part]], level)} for part, features in further
        ]
        rows = sum(map(len, inliers.values()))
        facts["joined"] = {"n": rows, **_accuracy(list(correct.values()), level)}
    return facts


def _size(name: str, features: FeatureSet) -> dict[str, Any]:
    return {"dataset": name, "split": split_name(features), "n": len(features)}


def _accuracy(correct: Sequence[np.ndarray | None], level: float | None) -> dict[str, float]:
    """Return the accuracy of all labelled rows, and its interval; nothing if a set has no labels or predictions."""
    known = [part for part in correct if part is not None]
    if len(known) < len(correct):
        return {}
    rows = np.concatenate(known)
    facts = {"accuracy": float(rows.mean())}
    if level is not None:
        _, facts["accuracy_low"], facts["accuracy_high"] = binomial_interval(
            int(rows.sum()), len(rows), level
        )
    return facts


def _correct(features: FeatureSet, predictions: np.ndarray | None) -> np.ndarray | None:
    """Return whether each labelled row is classified correctly; None without labels or predictions."""
    labels = _labels(features)
    if labels is None or predictions is None:
        return None
    return predictions[labels >= 0] == labels[labels >= 0]


def _classification(logits: Any, features: FeatureSet, numbers: np.ndarray | None = None) -> dict[str, float]:
    if logits is None or (labels := _labels(features)) is None:
        return {}
    return classification_metrics(np.asarray(logits[:]), labels, classes=numbers)


def _reliability(logits: Any, labels: np.ndarray) -> dict[str, list[float]]:
    """Return confidence, accuracy and rows of the bins that have rows."""
    curve = reliability_curve(np.asarray(logits[:]), labels)
    filled = curve.rows > 0
    return {name: values[filled].tolist() for name, values in curve._asdict().items()}


class _Joined(NamedTuple):
    """The rows that count as in-distribution."""

    scores: np.ndarray
    classes: np.ndarray | None
    """Predicted classes ``[N]``, or None."""
    labels: np.ndarray | None
    """Labels ``[N]``, or None; negative if the class is unknown."""


def _joined(
    inliers: Mapping[str, FeatureSet],
    scores: Mapping[str, np.ndarray],
    classes: Mapping[str, np.ndarray | None],
) -> _Joined:
    """Join the rows of sets; the class of rows of a shifted set without labels or predictions is unknown."""
    values = np.concatenate([scores[name] for name in inliers])
    predicted: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    for name, features in inliers.items():
        own, found = _labels(features), classes[name]
        if own is None or found is None:
            if not labels:  # the in-distribution set itself
                return _Joined(values, None, None)
            own, found = np.full(len(features), -1), np.zeros(len(features), int)
        predicted.append(found)
        labels.append(own)
    return _Joined(values, np.concatenate(predicted), np.concatenate(labels))


def _open_set(known: _Joined, scores: np.ndarray, classes: np.ndarray | None) -> dict[str, float]:
    if known.classes is None or known.labels is None or classes is None:
        return {}
    return open_set_metrics(known.scores, scores, known.classes, classes, known.labels)


def _by_ood_class(id_scores: np.ndarray, scores: np.ndarray, features: FeatureSet) -> dict[str, float]:
    """Return the mean AUROC over the classes of an out-of-distribution set, if it has several."""
    labels = _labels(features)
    if labels is None or np.ptp(labels[labels >= 0]) == 0:
        return {}
    return {"auroc_macro": auroc_macro(id_scores, scores, labels)}


def _aurra(known: _Joined) -> dict[str, float]:
    if known.classes is None or known.labels is None:
        return {}
    rows = known.labels >= 0
    return {"aurra": aurra(known.scores[rows], known.classes[rows] == known.labels[rows])}


def _labels(features: FeatureSet) -> np.ndarray | None:
    """Return the labels of a set, or None if no row has one."""
    if features.labels is None or not ((labels := np.asarray(features.labels[:])) >= 0).any():
        return None
    return labels


def split_name(features: FeatureSet) -> str:
    """Return the split of a set, or "all" if it does not come from a cache."""
    return features.origin.split if features.origin else "all"
