"""Heads that compare rows with training rows in another way than by their distance."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import mahalanobis
from scipy.special import softmax
from sklearn.preprocessing import PowerTransformer, StandardScaler

from featood.errors import DataError
from featood.heads import create_head
from featood.testing.fixture import synthetic_sets, with_main

TRAIN, TEST = synthetic_sets()
W, B = (np.asarray(part, dtype=float) for part in TRAIN.classifier)
KNOWN = np.asarray(TRAIN.labels) >= 0
Z = np.asarray(TRAIN.features["avg"], dtype=float)[KNOWN]
Y = np.asarray(TRAIN.labels)[KNOWN]
L = np.asarray(TRAIN.logits, dtype=float)[KNOWN]
X = np.asarray(TEST.features["avg"], dtype=float)
TEST_LOGITS = np.asarray(TEST.logits, dtype=float)


def scores(name, train=TRAIN, test=TEST, **options):
    return create_head(name, **options).fit(train).score(test)


def direction(row):
    return row / max(math.sqrt(sum(row**2)), 1e-300)


# ---- relation graph


@pytest.mark.parametrize(("power", "threshold"), [(1.0, 0.03), (4.0, 0.03), (0.5, 0.4)])
def test_relation(power, threshold):
    p, q = softmax(TEST_LOGITS, axis=1), softmax(L, axis=1)
    expected = []
    for x, likely in zip(X, p, strict=True):
        total = 0.0
        for z, other in zip(Z, q, strict=True):
            relation = max(direction(x) @ direction(z), 0) * (likely @ other)
            total += relation**power if relation > threshold else 0
        expected.append(-total)
    np.testing.assert_allclose(scores("relation", power=power, threshold=threshold), expected, rtol=1e-5)


def test_a_row_without_relation_is_most_out_of_distribution():
    values = np.asarray(TEST.features["avg"]).copy()
    values[3] = 0
    found = scores("relation", test=with_main(TEST, values))
    assert found[3] == 0 and (np.delete(found, 3) <= 0).all()


def test_relation_keeps_a_share_of_the_rows():
    head = create_head("relation", fraction=0.1, seed=3).fit(TRAIN.rows(KNOWN))
    rows = head.state["rows"].numpy()
    assert len(rows) == len(head.state["logits"]) == 30
    numbers = [int(np.flatnonzero((Z.astype("f4") == row).all(1))[0]) for row in rows]
    np.testing.assert_allclose(head.state["logits"].numpy(), L[numbers], rtol=1e-6)


# ---- gradients with respect to an outlier prototype


def gradient_distances(outlier):
    means = torch.tensor(np.array([Z[c == Y].mean(0) for c in range(len(B))]))

    def gradient(row, label):
        prototype = torch.tensor(outlier, requires_grad=True)
        logits = -(torch.tensor(row) - torch.cat([means, prototype[None]])).norm(dim=1)
        loss = torch.nn.functional.cross_entropy(logits[None], torch.tensor([label]))
        return torch.autograd.grad(loss, prototype)[0].numpy()

    right = L.argmax(1) == Y
    bank = [gradient(z, y) for z, y in zip(Z[right], Y[right], strict=True)]
    queries = [gradient(x, int(logits.argmax())) for x, logits in zip(X, TEST_LOGITS, strict=True)]
    return [min(np.linalg.norm(g - other) for other in bank) for g in queries]


def test_grood_against_automatic_differentiation():
    known = TRAIN.rows(KNOWN)
    center = np.mean([Z[c == Y].mean(0) for c in range(len(B))], axis=0)
    np.testing.assert_allclose(scores("grood", train=known), gradient_distances(center), rtol=1e-4, atol=1e-7)


def test_grood_takes_the_mean_of_outliers():
    outlier = np.asarray(TRAIN.features["avg"], dtype=float)[~KNOWN].mean(0)
    np.testing.assert_allclose(scores("grood"), gradient_distances(outlier), rtol=1e-4, atol=1e-7)


def test_grood_refuses_labels_that_never_agree():
    wrong = (np.asarray(TRAIN.logits).argmax(1) + 1) % len(B)
    with pytest.raises(DataError, match="classified correctly"):
        scores("grood", train=dataclasses.replace(TRAIN, labels=wrong))


# ---- nearest neighbours and extreme values


def test_combood():
    def extremes(data, logits):
        columns = [np.asarray(data.features[name], float) for name in ("layer1.avg", "avg")]
        return np.stack([f(rows, axis=1) for rows in (*columns, logits) for f in (np.min, np.max)], 1)

    known = TRAIN.rows(KNOWN)
    values, test = extremes(known, L), extremes(TEST, TEST_LOGITS)
    scaler = StandardScaler().fit(values)
    power = PowerTransformer().fit(scaler.transform(values))
    covariance = np.cov(power.transform(scaler.transform(values)), rowvar=False)
    inverse = np.linalg.inv(covariance + np.eye(len(covariance)))
    center = np.zeros(len(covariance))
    expected = []
    for x, row in zip(X, power.transform(scaler.transform(test)), strict=True):
        nearest = sorted(sum((direction(x) - direction(z)) ** 2) for z in Z)[6]
        expected.append(math.sqrt(X.shape[1]) * math.log(nearest) + mahalanobis(row, center, inverse) ** 2)
    found = scores("combood", k=7, features=("layer1.avg", "avg"))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_combood_reads_pooled_columns():
    head = create_head("combood")
    assert head.columns(TRAIN) == ["avg", "layer1.avg", "layer2.avg"]
    assert create_head("combood", features=("std",)).columns(TRAIN) == ["avg", "std"]
