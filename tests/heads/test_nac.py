"""Neuron activation coverage, compared with loops over rows, neurons and bins."""

import dataclasses

import numpy as np
import pytest
import torch

from featood.errors import DataError, Mismatch, UsageError
from featood.heads import create_head
from featood.testing.fixture import synthetic_sets

TRAIN, TEST = synthetic_sets()
W, B = (np.asarray(part, dtype=float) for part in TRAIN.classifier)
KNOWN = np.asarray(TRAIN.labels) >= 0
Z = np.asarray(TRAIN.features["avg"], dtype=float)[KNOWN]
X = np.asarray(TEST.features["avg"], dtype=float)
CLASSES = len(B)


def scores(train=TRAIN, test=TEST, **options):
    return create_head("nac", **options).fit(train).score(test)


def edges_by_the_authors(points):
    """Their M edges, of which the last two bound a bin that no state reaches."""
    left = np.log(np.linspace(1, np.sqrt(1000), points // 2)) / np.log(1000)
    return np.append(np.concatenate([left[:-1], (1 - left)[::-1]])[:-1], [1.01, 1.2])


def products(x):
    """z times dKL(uniform || softmax)/dz, by differentiation."""
    z = torch.tensor(x, requires_grad=True)
    p = (torch.tensor(W) @ z + torch.tensor(B)).softmax(0)
    (1 / CLASSES * (1 / CLASSES / p).log()).sum().backward()
    return x * z.grad.numpy()


def coverage(train, test, points, full, alpha, scale=0.0):
    """One stage, from products [N, D] and [T, D], in a loop over rows, neurons and bins."""
    edges, scale = edges_by_the_authors(points), scale or np.std(train)

    def cell(value):
        state = 1 / (1 + np.exp(-alpha * value / scale))
        return next(b for b in range(points - 1) if edges[b] <= state < edges[b + 1])

    counts = np.zeros((train.shape[1], points - 1))
    for row in train:
        for neuron, value in enumerate(row):
            counts[neuron, cell(value)] += 1
    filled = np.minimum(counts / (full * len(train)), 1)
    return np.array([np.mean([filled[n, cell(value)] for n, value in enumerate(row)]) for row in test])


@pytest.mark.parametrize(
    "options", [{}, {"bins": 12, "full": 0.3, "alpha": 2.0}, {"scale": 1.0, "alpha": 30.0, "bins": 51}]
)
def test_nac(options):
    head = create_head("nac", **options)
    train, test = (np.array([products(x) for x in rows]) for rows in (Z, X))
    how = (head.bins - head.bins % 2, head.full, head.alpha, head.scale)
    np.testing.assert_allclose(scores(**options), -coverage(train, test, *how), rtol=1e-9)


def with_stages(data, z, seed):
    """Add a stage, and one that repeats the classifier's input."""
    stage = np.random.default_rng(seed).normal(0, 30, (len(data), 6)) ** 3
    repeat = np.array([products(x) for x in np.asarray(data.features["avg"], dtype=float)])
    return dataclasses.replace(data, features={**data.features, "layer1.nac": stage, "layer3.nac": repeat})


def test_nac_of_several_stages_counts_the_last_once():
    train, test = with_stages(TRAIN, Z, 1), with_stages(TEST, X, 2)
    with pytest.warns(UserWarning, match=r"left out layer3\.nac \(the same as avg\)"):
        head = create_head("nac", alpha=5.0).fit(train)
    parts = [
        coverage(train.features[name][KNOWN], test.features[name], 50, 0.05, 5.0)
        for name in ("layer1.nac", "layer3.nac")
    ]
    np.testing.assert_allclose(head.score(test), -np.mean(parts, axis=0), rtol=1e-9)
    assert not any(name.startswith("layer3") for name in head.state)
    one = create_head("nac", alpha=5.0, features=("layer1.nac",)).fit(train)
    np.testing.assert_allclose(one.score(test), -parts[0], rtol=1e-9)


def test_nac_of_stages_needs_no_classifier():
    train, test = (dataclasses.replace(with_stages(data, z, 1), classifier=None, logits=None)
                   for data, z in ((TRAIN, Z), (TEST, X)))  # fmt: skip
    found = create_head("nac", features=("layer1.nac",)).fit(train).score(test)
    stages = [data.features["layer1.nac"] for data in (train, test)]
    np.testing.assert_allclose(found, -coverage(stages[0][KNOWN], stages[1], 50, 0.05, 2.0), rtol=1e-9)
    for features in ((), ("avg", "layer1.nac")):
        with pytest.raises(DataError, match="nac needs the classifier"):
            create_head("nac", features=features).fit(train)


def test_nac_does_not_change_with_the_scale_of_a_stage():
    train, test = with_stages(TRAIN, Z, 1), with_stages(TEST, X, 2)

    def stretched(data):
        return dataclasses.replace(
            data, features={**data.features, "layer1.nac": 1e-3 * data.features["layer1.nac"]}
        )

    plain, small = (scores(a, b) for a, b in ((train, test), (stretched(train), stretched(test))))
    np.testing.assert_allclose(small, plain, rtol=1e-9)


def test_nac_is_fitted_again_where_an_earlier_version_fitted_it():
    head = create_head("nac")
    with pytest.raises(Mismatch, match="fit it again"):
        head.prepare({"coverage": torch.zeros(3), "weight": torch.zeros(2, 3), "bias": torch.zeros(2)})


def test_a_column_that_does_not_fit_the_classifier_is_named():
    with pytest.raises(UsageError, match=r"layer1\.avg"):
        scores(features=("layer1.avg",))
