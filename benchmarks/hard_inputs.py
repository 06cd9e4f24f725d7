"""Behaviour of pytorch-ood and of featood's heads on inputs that break detectors."""

from __future__ import annotations

__all__ = ["collapse_table", "hard_table"]

import dataclasses
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from featood import FeatureSet, create_head
from featood.metrics import auroc
from featood.speed.pytorch_ood import PEERS, Layer, Peer, fit_peer, score_peer

HEADS = ("mahalanobis", "relative-mahalanobis", "knn", "vim", "gmm")
CLASSES = 10
Sets = tuple[FeatureSet, FeatureSet, FeatureSet]
"""Training rows, test rows, and OOD rows."""


def sets(rows: int = 1000, size: int = 32, test_rows: int = 400) -> Sets:
    """Make Gaussian classes in float32 with a classifier, and OOD rows around other means."""
    rng = np.random.default_rng(0)
    means, elsewhere = rng.normal(0, 1, (2, CLASSES, size))
    classifier = (means.astype(np.float32), np.zeros(CLASSES, np.float32))

    def draw(count: int, means: np.ndarray) -> FeatureSet:
        labels = np.arange(count) % CLASSES
        features = (means[labels] + rng.normal(0, 1, (count, size))).astype(np.float32)
        return FeatureSet({"avg": features}, labels=labels, classifier=classifier)

    return draw(rows, means), draw(test_rows, means), draw(test_rows, elsewhere)


def changed(data: FeatureSet, change: Callable[[np.ndarray], np.ndarray]) -> FeatureSet:
    """Change the features of a set; the classifier is padded with zeros."""
    features = change(np.asarray(data.feature()).copy())
    weight, bias = data.classifier  # type: ignore[misc]
    wider = np.pad(weight, ((0, 0), (0, features.shape[1] - weight.shape[1])))
    return dataclasses.replace(data, features={"avg": features}, classifier=(wider, bias))


def put(row: int, value: float) -> Callable[[np.ndarray], np.ndarray]:
    """Return a change that sets a value in one row."""

    def change(features: np.ndarray) -> np.ndarray:
        features[row, 3] = value
        return features

    return change


def both(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[], Sets]:
    """Return a function that applies a change to all rows."""
    return lambda: tuple(changed(data, change) for data in sets())  # type: ignore[return-value]


def one(train: Callable | None = None, test: Callable | None = None) -> Callable[[], Sets]:
    """Return a function that changes training or test rows."""

    def make() -> Sets:
        first, second, odd = sets()
        return (changed(first, train) if train else first), (changed(second, test) if test else second), odd

    return make


def dead(features: np.ndarray) -> np.ndarray:
    """Set a feature to zero."""
    features[:, 5] = 0
    return features


def without_a_class() -> Sets:
    """Leave a class out of the training rows."""
    train, test, odd = sets()
    return train.rows(np.asarray(train.labels) != 3), test, odd


def no_rows() -> Sets:
    """Leave no rows to score."""
    train, test, odd = sets()
    return train, test.rows(slice(0, 0)), odd


FAULTS: dict[str, Callable[[], Sets]] = {
    "none": sets,
    "100 rows of 128 features": lambda: sets(100, 128),
    "duplicated columns": both(lambda features: np.concatenate([features, features], 1)),
    "one NaN in train": one(train=put(3, np.nan)),
    "one Inf in test": one(test=put(3, np.inf)),
    "class 3 of 10 missing": without_a_class,
    "float64": both(lambda features: features.astype(np.float64)),
    "float16": both(lambda features: features.astype(np.float16)),
    "0 test rows": no_rows,
    "feature dead in train, alive in test": one(train=dead),
}


def reference(train: FeatureSet, test: FeatureSet) -> np.ndarray | None:
    """Return Mahalanobis distances by pinv in float64; None unless all rows are finite."""
    z, x = (np.asarray(data.feature(), dtype=np.float64) for data in (train, test))
    labels = np.asarray(train.labels)
    if not (np.isfinite(z).all() and np.isfinite(x).all() and len(x)):
        return None
    means = {c: z[labels == c].mean(0) for c in np.unique(labels)}
    centred = z - np.array([means[c] for c in labels])
    precision = np.linalg.pinv(centred.T @ centred / len(z), hermitian=True)
    return np.min([((x - mean) @ precision * (x - mean)).sum(1) for mean in means.values()], axis=0)


def verdict(peer: Peer, scores: np.ndarray, odd: np.ndarray, expected: np.ndarray | None) -> str:
    """Describe faults of the scores of test rows, and their AUROC against OOD rows."""
    if not len(scores):
        return "no scores"
    if bad := int((~np.isfinite(scores)).sum()):
        return f"{bad} of {len(scores)} scores not finite"
    words = [f"AUROC {auroc(scores, odd):.3f}"]
    if peer.head == "mahalanobis" and (scores < 0).any():
        words.append(f"{(scores < 0).sum()} of {len(scores)} distances negative")
    if peer.head == "mahalanobis" and expected is not None:
        words.append(f"rank correlation with float64 pinv {spearmanr(scores, expected).statistic:.2f}")
    return ", ".join(words)


def theirs(detectors: ModuleType, peer: Peer, data: Sets) -> str:
    """Fit and score a detector."""
    detector = peer.make(detectors, Layer(data[0]), None)
    fit_peer(detector, peer.view, data[0])
    scores, odd = (score_peer(detector, peer.view, rows) for rows in data[1:])
    return verdict(peer, scores, odd, reference(*data[:2]))


def ours(peer: Peer, data: Sets) -> str:
    """Fit and score the head, and add its notes on the fit."""
    head = peer.create(data[0]).fit(data[0])
    scores, odd = (head.score(rows) for rows in data[1:])
    return "; ".join([verdict(peer, scores, odd, reference(*data[:2])), *head.record.notes])


def outcome(run: Callable[..., str], *about: Any) -> str:
    """Run, and describe the scores or the error."""
    try:
        return run(*about)
    except Exception as error:  # an expected result
        return f"{type(error).__name__}: {str(error).strip() or '(no text)'}".split("\n")[0][:160]


def hard_table(detectors: ModuleType) -> list[dict[str, Any]]:
    """Return a row for every fault and head."""
    rows = []
    for fault, make in FAULTS.items():
        data = make()
        for peer in (peer for peer in PEERS if peer.head in HEADS):
            row = {"fault": fault, "head": peer.head, "pytorch-ood": outcome(theirs, detectors, peer, data)}
            rows.append({**row, "featood": outcome(ours, peer, data)})
    return rows


def collapse_table(
    sizes: tuple[int, ...] = (64, 128, 200, 256, 512), rows: int = 1000
) -> list[dict[str, Any]]:
    """Score ID rows, and the same scaled by 1.5, by a mixture whose density is computed in float32 before its log.

    exp(-d/2) underflows in float32 from a squared distance d of about 208 on; adding 1e-45 before the log then gives
    all these rows the same score.
    """
    table = []
    for size in sizes:
        train, test, _ = sets(20 * size, size, rows)
        wide = changed(test, lambda features: 1.5 * features)
        head = create_head("gmm", covariance="tied").fit(train)
        log_space = [head.score(data) for data in (test, wide)]
        exp_space = [exp_scores(train, data) for data in (test, wide)]
        table.append(
            {
                "features": size,
                "distinct, exp space": len(np.unique(exp_space[0])),
                "distinct, featood": len(np.unique(log_space[0])),
                "AUROC, exp space": auroc(*exp_space),
                "AUROC, featood": auroc(*log_space),
            }
        )
    return table


def exp_scores(train: FeatureSet, data: FeatureSet) -> np.ndarray:
    """Return ``-log(sum_c w_c exp(-d_c / 2) + 1e-45)`` in float32, d_c the squared Mahalanobis distance."""
    z, x, labels = (
        np.asarray(train.feature(), float),
        np.asarray(data.feature(), float),
        np.asarray(train.labels),
    )
    means = np.array([z[labels == c].mean(0) for c in range(CLASSES)])
    root = np.linalg.cholesky(np.linalg.inv(np.cov((z - means[labels]).T)))
    squared = np.array([(((x - mean) @ root) ** 2).sum(1) for mean in means]).T
    density = np.exp(np.float32(-0.5) * squared.astype(np.float32)).mean(1, dtype=np.float32)
    return -np.log(density + np.float32(1e-45))
