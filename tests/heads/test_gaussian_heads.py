import dataclasses
import math

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from featood.errors import DataError
from featood.heads import create_head
from featood.testing.fixture import synthetic_sets, with_main

TRAIN, TEST = synthetic_sets()
KNOWN = np.asarray(TRAIN.labels) >= 0
Z = np.asarray(TRAIN.features["avg"], dtype=float)[KNOWN]
Y = np.asarray(TRAIN.labels)[KNOWN]
X = np.asarray(TEST.features["avg"], dtype=float)


def scores(name, train=TRAIN, test=TEST, **options):
    return create_head(name, **options).fit(train).score(test)


def lengthened(rows):
    return np.array([row / np.sqrt((row**2).sum()) for row in rows])


def class_means(z, y):
    return np.array([z[y == c].mean(0) for c in range(y.max() + 1)])


def tied_covariance(z, y):
    means, total = class_means(z, y), np.zeros((z.shape[1], z.shape[1]))
    for row, label in zip(z, y, strict=True):
        total += np.outer(row - means[label], row - means[label])
    return total / len(z)


def distances(x, z, y):
    precision, means = np.linalg.inv(tied_covariance(z, y)), class_means(z, y)
    return np.array([[(row - mean) @ precision @ (row - mean) for mean in means] for row in x])


def background(x, z):
    precision = np.linalg.inv(np.cov(z.T, bias=True))
    return np.array([(row - z.mean(0)) @ precision @ (row - z.mean(0)) for row in x])


# ---- Mahalanobis and its kin


@pytest.mark.parametrize(
    ("name", "oracle"),
    [
        ("mahalanobis", lambda: distances(X, Z, Y).min(1)),
        ("mahalanobis-pp", lambda: distances(lengthened(X), lengthened(Z), Y).min(1)),
        ("ssd", lambda: distances(lengthened(X), lengthened(Z), Y).min(1)),
        ("relative-mahalanobis", lambda: distances(X, Z, Y).min(1) - background(X, Z)),
        (
            "rmd-pp",
            lambda: distances(*map(lengthened, (X, Z)), Y).min(1) - background(*map(lengthened, (X, Z))),
        ),
        ("gem", lambda: [-math.log(sum(math.exp(-d / 2) for d in row)) for row in distances(X, Z, Y)]),
    ],
)
def test_gaussian_head(name, oracle):
    np.testing.assert_allclose(scores(name), oracle(), rtol=2e-5, atol=1e-4)


@pytest.mark.parametrize("offset", [0, 1e4])
@pytest.mark.parametrize("name", ["mahalanobis", "relative-mahalanobis"])
def test_many_classes_and_features(name, offset):
    """With sizes for which products are triangular, and the nearest class is found in float32."""
    rng = np.random.default_rng(0)
    scale, means = np.geomspace(1e-2, 10, 270), rng.normal(size=(80, 270))
    y = rng.permutation(np.arange(1600) % 80)

    def draw(labels):
        return (offset + scale * (means[labels] + rng.normal(size=(len(labels), 270)))).astype(np.float32)

    z, x = draw(y), np.concatenate([draw(np.arange(30)), 5 * draw(np.arange(5))])
    found = create_head(name).fit(z, y).score(x)
    z, x = z.astype(float), x.astype(float)
    centers = class_means(z, y)

    def squares(covariance, differences):
        return (differences * np.linalg.solve(covariance, differences.T).T).sum(1)

    tied = (z - centers[y]).T @ (z - centers[y]) / len(z)
    expected = np.min([squares(tied, x - center) for center in centers], axis=0)
    if name == "relative-mahalanobis":
        expected -= squares(np.cov(z.T, bias=True), x - z.mean(0))
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-8 * np.abs(expected).max())


def test_relative_mahalanobis_ranks_as_pytorch_ood(detectors):
    # theirs divides neither scatter by N, which scales all scores alike, up to the ridge
    theirs = detectors.RMD(None).fit_features(torch.tensor(Z).float(), torch.tensor(Y))
    expected = theirs.predict_features(torch.tensor(X).float())
    assert spearmanr(scores("relative-mahalanobis"), expected).statistic > 0.999


def test_dead_features_can_be_ignored_as_a_pseudo_inverse_does():
    rng = np.random.default_rng(0)
    z, y = rng.normal(size=(200, 6)), rng.integers(0, 3, 200)
    z[:, 4] = 0.7
    x = rng.normal(size=(50, 6))
    centred = z - np.stack([z[y == c].mean(0) for c in range(3)])[y]
    precision = np.linalg.pinv(centred.T @ centred / len(z))
    expected = [
        min((row - z[y == c].mean(0)) @ precision @ (row - z[y == c].mean(0)) for c in range(3)) for row in x
    ]
    ignoring = create_head("mahalanobis", ridge=0.0, dead="ignore").fit(z, y)
    np.testing.assert_allclose(ignoring.score(x), expected, rtol=1e-9)
    assert (create_head("mahalanobis").fit(z, y).score(x) > 1e3).all()


def test_gem_keeps_far_rows_apart():
    far = with_main(TEST, np.float32(1e3) * TEST.features["avg"])
    assert len(set(scores("gem", test=far))) == len(far)


def test_multi_mahalanobis_adds_layers_over_their_spread():
    names = ["layer1.avg", "layer2.avg", "avg"]
    expected = np.zeros(len(X))
    for name in names:
        z, x = (np.asarray(data.features[name], dtype=float) for data in (TRAIN, TEST))
        spread = distances(z[KNOWN], z[KNOWN], Y).min(1).std()
        expected += distances(x, z[KNOWN], Y).min(1) / spread
    np.testing.assert_allclose(scores("multi-mahalanobis"), expected, rtol=1e-4)


def test_multi_mahalanobis_equal_weights_of_chosen_layers():
    found = scores("multi-mahalanobis", features=("layer1.avg", "std"), weights="equal")
    parts = scores("mahalanobis", feature="std") + scores("mahalanobis", feature="layer1.avg")
    np.testing.assert_allclose(found, parts, rtol=1e-6)


def test_multi_mahalanobis_learns_its_weights_from_outliers():
    from sklearn.linear_model import LogisticRegression

    names = ["layer1.avg", "layer2.avg", "avg"]
    known = np.asarray(TRAIN.labels) >= 0
    parts = [[], []]
    for name in names:
        z, x = (np.asarray(data.features[name], dtype=float) for data in (TRAIN, TEST))
        for part, rows in zip(parts, (z, x), strict=True):
            part.append(distances(rows, z[known], Y).min(1))
    scale = np.std(np.array(parts[0])[:, known], axis=1)
    model = LogisticRegression(class_weight="balanced", max_iter=1000)
    model.fit((np.array(parts[0]).T / scale), ~known)
    expected = (np.array(parts[1]).T / scale) @ model.coef_[0]
    head = create_head("multi-mahalanobis", weights="learned").fit(TRAIN)
    np.testing.assert_allclose(head.score(TEST), expected, rtol=1e-2, atol=1e-2)
    with pytest.raises(DataError, match="--outliers"):
        create_head("multi-mahalanobis", weights="learned").fit(TRAIN.rows(known))


def test_multi_mahalanobis_ranks_as_pytorch_ood(detectors):
    layers = ["layer1.avg", "layer2.avg"]
    theirs = detectors.MultiMahalanobis([torch.nn.Identity()] * 2)
    theirs.fit_structured([torch.tensor(TRAIN.features[name][KNOWN]) for name in layers], torch.tensor(Y))
    expected = theirs.predict_structured([torch.tensor(TEST.features[name]) for name in layers])
    found = scores("multi-mahalanobis", features=tuple(layers), weights="equal")
    assert spearmanr(found, expected).statistic > 0.999


# ---- SSD


def test_ssd_without_labels_is_one_gaussian():
    plain = dataclasses.replace(TRAIN.rows(KNOWN), labels=None)
    np.testing.assert_allclose(
        scores("ssd", train=plain), background(lengthened(X), lengthened(Z)), rtol=1e-4, atol=1e-4
    )


def test_ssd_finds_separate_clusters():
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 4
    z = (np.eye(6)[labels] * 5 + 0.1 * rng.normal(size=(400, 6))).astype(np.float32)
    x = rng.normal(size=(30, 6)).astype(np.float32)
    by_class = create_head("ssd").fit(z, labels).score(x)
    np.testing.assert_allclose(create_head("ssd", clusters=4).fit(z).score(x), by_class, rtol=1e-5)
    assert abs(create_head("ssd", clusters=2).fit(z).score(x) - by_class).max() > 1


def test_ssd_clips_first():
    limit = np.quantile(Z, 0.7)
    expected = distances(lengthened(X.clip(max=limit)), lengthened(Z.clip(max=limit)), Y).min(1)
    np.testing.assert_allclose(scores("ssd", clip=0.7), expected, rtol=1e-4)


def test_ssd_refuses_more_clusters_than_rows():
    with pytest.raises(DataError, match="clusters"):
        scores("ssd", train=TRAIN.rows(slice(0, 10)), clusters=11)
