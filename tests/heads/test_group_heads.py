"""Classifiers with other outputs than logits: quotients (GODIN) and groups of classes (MOS)."""

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from sklearn.cluster import KMeans

from featood.cache.feature_set import FeatureSet
from featood.errors import DataError, UsageError
from featood.heads import create_head
from featood.heads.open_set.mos import group_log_probabilities, grouped
from featood.testing.fixture import synthetic_sets

TRAIN, TEST = synthetic_sets()
X = np.asarray(TEST.features["avg"], dtype=float)
KNOWN = np.asarray(TEST.labels) >= 0
QUICK = {"epochs": 30, "batch_size": 64, "lr": 0.02, "space": "none"}


def weights(head):
    return {name.removeprefix("model."): np.asarray(value, float) for name, value in head.state.items()}


# ---- GODIN


def similarity(kind, x, w, b):
    if kind == "cosine":
        return x @ w / np.linalg.norm(x) / np.linalg.norm(w)
    return x @ w + b if kind == "inner" else -np.mean((x - w) ** 2)


@pytest.mark.parametrize("kind", ["cosine", "inner", "euclid"])
def test_godin(kind):
    head = create_head("godin", similarity=kind, **QUICK).fit(TRAIN)
    w = weights(head)
    bias = w.get("h.bias", np.zeros(5))
    h = np.array(
        [[similarity(kind, x, *layer) for layer in zip(w["h.weight"], bias, strict=True)] for x in X]
    )
    inner = X @ w["g.0.weight"][0] + w["g.0.bias"]
    normed = (inner - w["g.1.running_mean"]) / np.sqrt(w["g.1.running_var"] + 1e-5)
    g = 1 / (1 + np.exp(-(w["g.1.weight"] * normed + w["g.1.bias"])))
    np.testing.assert_allclose(head.score(TEST), -h.max(1), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(head.classify(TEST), h / g[:, None], rtol=1e-6, atol=1e-9)
    scale = create_head("godin", similarity=kind, which="g", **QUICK).adopt(head._fit)
    np.testing.assert_allclose(scale.score(TEST), -g, rtol=1e-6)
    right = head.classify(TEST).argmax(1)[KNOWN] == np.asarray(TEST.labels)[KNOWN]
    assert right.mean() > 0.6


def test_weight_decay_leaves_out_the_similarities():
    rows = FeatureSet({"avg": np.asarray(TRAIN.features["avg"])}, labels=TRAIN.labels)
    sizes = []
    for decay in (0.0, 20.0):
        w = weights(create_head("godin", weight_decay=decay, **QUICK).fit(rows))
        sizes.append((np.abs(w["g.0.weight"]).sum(), np.linalg.norm(w["h.weight"])))
    assert sizes[1][0] < 0.2 * sizes[0][0] and sizes[1][1] > 0.7 * sizes[0][1]


def test_godin_needs_batches_of_two():
    with pytest.raises(DataError, match="takes two"):
        create_head("godin", batch_size=1).fit(TRAIN)


# ---- MOS


def test_group_log_probabilities():
    groups = np.array([1, 0, 1, 2, 0])
    logits = np.random.default_rng(0).normal(0, 30, (7, 8))
    expected = np.empty_like(logits)
    for group in range(3):
        members = [*np.flatnonzero(groups == group), 5 + group]
        expected[:, members] = log_softmax(logits[:, members], axis=1)
    found = group_log_probabilities(torch.tensor(logits), torch.tensor(groups))
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_mos_scores_and_loss():
    head = create_head("mos", groups=2, **QUICK).fit(TRAIN)
    w = weights(head)
    groups = w["groups"].astype(int)
    logits = X @ w["net.0.weight"].T + w["net.0.bias"]
    log_p = np.empty_like(logits)
    for group in range(2):
        members = [*np.flatnonzero(groups == group), 5 + group]
        log_p[:, members] = log_softmax(logits[:, members], axis=1)
    np.testing.assert_allclose(head.score(TEST), np.exp(log_p[:, 5:]).min(1), rtol=1e-6)
    np.testing.assert_allclose(head.classify(TEST), log_p[:, :5], rtol=1e-6, atol=1e-9)
    known = np.flatnonzero(KNOWN)
    labels = np.asarray(TEST.labels)[known]
    loss = 0.0
    for row, label in zip(known, labels, strict=True):
        for group in range(2):
            loss -= log_p[row, label] if groups[label] == group else log_p[row, 5 + group]
    model = head.prepared[0]
    found = head.losses(model, torch.tensor(X[known]), torch.tensor(labels), torch.Generator())["loss"]
    assert float(found) == pytest.approx(loss / len(known), rel=1e-6)
    assert (head.classify(TEST).argmax(1)[known] == labels).mean() > 0.6


def test_groups_are_clusters_of_the_class_means():
    means = np.random.default_rng(1).normal(size=(20, 3)) + 10 * np.eye(3)[np.arange(20) % 3]
    found = grouped(torch.tensor(means), 3, seed=0).numpy()
    assert all(len(set(found[c::3])) == 1 for c in range(3)) and len(set(found)) == 3
    expected = KMeans(3, n_init=10, random_state=0).fit(means).inertia_
    inertia = sum(((means[found == g] - means[found == g].mean(0)) ** 2).sum() for g in range(3))
    assert inertia == pytest.approx(expected)


def test_groups_that_are_given():
    head = create_head("mos", assignment=("a", "b", "a", "c", "b"), **QUICK).fit(TRAIN)
    assert head.state["model.groups"].tolist() == [0, 1, 0, 2, 1]
    with pytest.raises(UsageError, match="groups of 2 classes, and 5"):
        create_head("mos", assignment=("a", "b")).fit(TRAIN)
