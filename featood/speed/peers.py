"""Other libraries that compute the same scores: functions that fit, and return a function that scores."""

from __future__ import annotations

__all__ = ["LIBRARIES", "peers_of"]

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np

from featood.cache.feature_set import FeatureSet
from featood.speed.pytorch_ood import PEERS, Layer, detectors, fit_peer, score_peer

Score = Callable[[FeatureSet], Any]
Fit = Callable[[FeatureSet], Score]
LIBRARIES = {"pytorch-ood": "pytorch_ood", "faiss": "faiss", "scikit-learn": "sklearn"}
"""Names of the libraries, and of their modules."""


def peers_of(head: str) -> dict[str, Fit]:
    """Return the installed libraries that have the same score, and how to fit it there."""
    found: dict[str, Fit] = {}
    if importlib.util.find_spec("pytorch_ood") and any(peer.head == head for peer in PEERS):
        found["pytorch-ood"] = _pytorch_ood(head)
    for library, fits in {"faiss": FAISS, "scikit-learn": SKLEARN}.items():
        if head in fits and importlib.util.find_spec(LIBRARIES[library]):
            found[library] = fits[head]
    return found


def _pytorch_ood(name: str) -> Fit:
    peer = next(peer for peer in PEERS if peer.head == name)

    def fit(train: FeatureSet) -> Score:
        detector = peer.make(detectors(), Layer(train), None)
        fit_peer(detector, peer.view, train)
        return lambda rows: score_peer(detector, peer.view, rows)

    return fit


def _faiss_knn(train: FeatureSet) -> Score:
    import faiss

    index: Any = faiss.IndexFlatL2(train.feature().shape[1])
    index.add(_unit(train))
    return lambda rows: index.search(_unit(rows), min(50, len(train)))[0][:, -1]


def _sklearn_knn(train: FeatureSet) -> Score:
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=min(50, len(train)), algorithm="brute").fit(_unit(train))
    return lambda rows: search.kneighbors(_unit(rows))[0][:, -1]


def _sklearn_mahalanobis(train: FeatureSet) -> Score:
    from sklearn.covariance import EmpiricalCovariance

    features, labels = np.asarray(train.feature()), np.asarray(train.labels)
    means = np.stack([features[labels == label].mean(0) for label in np.unique(labels)])
    precision = EmpiricalCovariance(assume_centered=True).fit(features - means[labels]).precision_

    def score(rows: FeatureSet) -> np.ndarray:
        values = np.asarray(rows.feature())
        distances = [((values - mean) @ precision * (values - mean)).sum(1) for mean in means]
        return np.min(distances, 0)

    return score


def _sklearn_lof(train: FeatureSet) -> Score:
    from sklearn.neighbors import LocalOutlierFactor

    factor = LocalOutlierFactor(n_neighbors=20, novelty=True, algorithm="brute").fit(
        np.asarray(train.feature())
    )
    return lambda rows: -factor.score_samples(np.asarray(rows.feature()))


def _unit(data: FeatureSet) -> np.ndarray:
    rows = np.asarray(data.feature(), np.float32)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


FAISS = {"knn": _faiss_knn}
SKLEARN = {"knn": _sklearn_knn, "mahalanobis": _sklearn_mahalanobis, "lof": _sklearn_lof}
