"""Comparison of shrunk covariances with scikit-learn on the same rows."""

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from sklearn.covariance import OAS, LedoitWolf, empirical_covariance
from sklearn.covariance import ledoit_wolf as peer_ledoit_wolf
from sklearn.covariance import oas as peer_oas

from featood.errors import UsageError
from featood.heads import create_head
from featood.numerics.moments import ClassMoments
from featood.numerics.shrinkage import ledoit_wolf, oas, shrunk
from featood.testing.fixture import Blockwise, synthetic_sets

KINDS = {"ledoit-wolf": LedoitWolf, "oas": OAS}
CLASSES = 3


def rows(count=80, size=6, seed=0, tail=3):
    rng = np.random.default_rng(seed)
    return rng.standard_t(tail, size=(count, size)) @ rng.normal(size=(size, size)) + 100


@pytest.mark.parametrize(("count", "size"), [(80, 6), (10, 30), (2, 5), (400, 2), (50, 1)])
def test_intensities_against_scikit_learn(count, size):
    x = rows(count, size)
    covariance = torch.tensor(empirical_covariance(x))
    powers = torch.tensor((((x - x.mean(0)) ** 2).sum(1) ** 2).sum())
    n = torch.tensor(float(count))
    for intensity, peer in (
        (ledoit_wolf(covariance, n, powers), peer_ledoit_wolf),
        (oas(covariance, n), peer_oas),
    ):
        expected, strength = peer(x)
        if size > 1:  # a single variance is the same for any intensity
            assert float(intensity) == pytest.approx(strength, rel=1e-7)
        np.testing.assert_allclose(shrunk(covariance, intensity), expected, rtol=1e-7, atol=1e-12)


def test_batches_of_covariances():
    sets = [rows(40, 5, seed) for seed in range(4)]
    stack = torch.tensor(np.stack([empirical_covariance(x) for x in sets]))
    powers = torch.tensor([(((x - x.mean(0)) ** 2).sum(1) ** 2).sum() for x in sets])
    n = torch.full((4,), 40.0, dtype=torch.float64)
    for kind, intensity in (("ledoit-wolf", ledoit_wolf(stack, n, powers)), ("oas", oas(stack, n))):
        np.testing.assert_allclose(intensity, [KINDS[kind]().fit(x).shrinkage_ for x in sets], rtol=1e-7)


def test_covariances_without_a_direction_to_shrink():
    even = torch.eye(3, dtype=torch.float64)
    n = torch.tensor(10.0, dtype=torch.float64)
    for intensity in (
        ledoit_wolf(even, n, 30 * n),
        oas(even, n),
        oas(0 * even, n),
        ledoit_wolf(0 * even, n, 0 * n),
    ):
        assert 0 <= float(intensity) <= 1
        torch.testing.assert_close(shrunk(even, intensity), even)


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_fourth_powers_of_parts_add_up(offset):
    x, labels = rows(200) + offset, np.arange(200) % CLASSES * 7
    labels[:20] = -1
    moments, total = ClassMoments.of(torch.tensor(x), torch.tensor(labels)), 0
    for part in np.array_split(np.arange(200), [3, 50, 51]):
        total = total + moments.fourth_powers(torch.tensor(x[part]), torch.tensor(labels[part]))
    expected = [
        (((x[labels == c] - x[labels == c].mean(0)) ** 2).sum(1) ** 2).sum() for c in np.unique(labels[20:])
    ]
    np.testing.assert_allclose(total, expected, rtol=1e-9)


# ---- heads


def data(count=60, size=8, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(count) % CLASSES
    return rng.standard_t(4, size=(count, size)) * np.geomspace(1, 0.02, size) + 2 * np.eye(size)[y], y


Z, Y = data()
X = data(40, seed=1)[0]
MEANS = np.stack([Z[c == Y].mean(0) for c in range(CLASSES)])


def distances(x, covariance, means=MEANS):
    precision = np.linalg.inv(covariance)
    return np.stack([np.einsum("nd,de,ne->n", x - m, precision, x - m) for m in means], 1)


def tied(kind):
    estimate = KINDS[kind](assume_centered=True).fit(Z - MEANS[Y])
    return estimate.covariance_, estimate.shrinkage_


@pytest.mark.parametrize("kind", KINDS)
def test_tied_covariances_are_shrunk_as_scikit_learn_does(kind):
    expected = distances(X, tied(kind)[0])
    found = {name: create_head(name, shrinkage=kind).fit(Z, Y).score(X) for name in ("mahalanobis", "gem")}
    np.testing.assert_allclose(found["mahalanobis"], expected.min(1), rtol=1e-7)
    np.testing.assert_allclose(found["gem"], -logsumexp(-expected / 2, axis=1), rtol=1e-7)
    layered = create_head("multi-mahalanobis", shrinkage=kind, weights="equal").fit(Z, Y)
    np.testing.assert_allclose(layered.score(X), expected.min(1), rtol=1e-7)
    mixture = create_head("gmm", covariance="tied", shrinkage=kind).fit(Z, Y)
    log_det = np.linalg.slogdet(2 * np.pi * tied(kind)[0])[1]
    np.testing.assert_allclose(
        mixture.score(X), -logsumexp(-(expected + log_det) / 2 - np.log(CLASSES), axis=1), rtol=1e-7
    )


@pytest.mark.parametrize("kind", KINDS)
def test_both_covariances_of_a_difference_are_shrunk_in_the_same_way(kind):
    covariance, strength = tied(kind)
    target = np.trace(covariance) / len(covariance)
    total = (1 - strength) * np.cov(Z.T, bias=True) + strength * target * np.eye(len(covariance))
    expected = distances(X, covariance).min(1) - distances(X, total, [Z.mean(0)])[:, 0]
    found = create_head("relative-mahalanobis", shrinkage=kind).fit(Z, Y).score(X)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("chunk", [1, 1 << 26])
def test_each_class_is_shrunk_by_its_rows(kind, chunk, monkeypatch):
    monkeypatch.setattr("featood.numerics.class_gaussians.CHUNK_BYTES", chunk)
    found = []
    for c in range(CLASSES):
        estimate = KINDS[kind]().fit(Z[c == Y])
        n = (c == Y).sum()
        covariance = estimate.covariance_ * n / (n - 1)
        log_det = np.linalg.slogdet(2 * np.pi * covariance)[1]
        found.append(-(distances(X, covariance, MEANS[c : c + 1])[:, 0] + log_det) / 2 - np.log(CLASSES))
    head = create_head("gmm", shrinkage=kind).fit(Z, Y)
    np.testing.assert_allclose(head.score(X), -logsumexp(found, axis=0), rtol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_clusters_and_unit_rows(kind):
    z, x = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (Z, X))
    means = np.stack([z[c == Y].mean(0) for c in range(CLASSES)])
    covariance = KINDS[kind](assume_centered=True).fit(z - means[Y]).covariance_
    for name in ("ssd", "mahalanobis-pp"):
        found = create_head(name, shrinkage=kind).fit(Z, Y).score(X)
        np.testing.assert_allclose(found, distances(x, covariance, means).min(1), rtol=1e-6)
    alone = KINDS[kind]().fit(z)
    np.testing.assert_allclose(
        create_head("ssd", shrinkage=kind).fit(Z).score(X),
        distances(x, alone.covariance_, [z.mean(0)])[:, 0],
        rtol=1e-6,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_shrinkage_needs_no_ridge_for_fewer_rows_than_features(kind):
    z, y = data(30, size=50)
    for name in ("mahalanobis", "relative-mahalanobis", "gmm"):
        head = create_head(name, shrinkage=kind).fit(z, y)
        assert not any("ridge" in note for note in head.record.notes)
        assert float(head.state["ridge"]) == 0


def test_a_ridge_is_added_after_shrinkage():
    covariance = tied("oas")[0]
    added = 0.1 * np.trace(covariance) / len(covariance)
    found = create_head("mahalanobis", shrinkage="oas", ridge=0.1).fit(Z, Y).score(X)
    np.testing.assert_allclose(
        found, distances(X, covariance + added * np.eye(len(covariance))).min(1), rtol=1e-7
    )


@pytest.mark.parametrize("name", ["mahalanobis", "relative-mahalanobis", "gmm", "ssd", "multi-mahalanobis"])
@pytest.mark.parametrize("kind", KINDS)
def test_blocks_and_rows_without_a_class_do_not_change_the_result(name, kind):
    train, test = synthetic_sets()
    whole = create_head(name, shrinkage=kind).fit(train).score(test)
    np.testing.assert_allclose(
        create_head(name, shrinkage=kind).fit(Blockwise.of(train)).score(test), whole, rtol=1e-7
    )
    known = train.rows(np.asarray(train.labels) >= 0)
    np.testing.assert_allclose(create_head(name, shrinkage=kind).fit(known).score(test), whole, rtol=1e-7)


def test_a_class_of_one_row_has_the_mean_covariance():
    z, y = np.concatenate([Z, [[50.0] * Z.shape[1]]]), np.append(Y, 3)
    for kind in KINDS:
        head = create_head("gmm", shrinkage=kind).fit(z, y)
        pooled = sum(20 * np.cov(Z[c == Y].T) for c in range(CLASSES)) / 60
        expected = (
            -np.log(1 / 61)
            + (distances(z[-1:] + 1, pooled, [z[-1]])[0, 0] + np.linalg.slogdet(2 * np.pi * pooled)[1]) / 2
        )
        assert head.score(z[-1:] + 1)[0] == pytest.approx(expected, rel=1e-7)


def test_unknown_methods_are_refused():
    with pytest.raises(UsageError, match="ledoit-wolf"):
        create_head("mahalanobis", shrinkage="ledoit")
