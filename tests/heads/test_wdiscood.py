"""WDiscOOD against a loop over rows and classes, scikit-learn's discriminant analysis, and what follows."""

import numpy as np
import pytest
from scipy.linalg import eigh, sqrtm
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from featood.heads import create_head
from featood.testing import synthetic_sets

TRAIN, TEST = synthetic_sets()
KNOWN = np.asarray(TRAIN.labels) >= np.arange(len(TRAIN.labels)) % 2  # half of the first class, no outliers
Z = np.asarray(TRAIN.features["avg"], dtype=float)[KNOWN]
Y = np.asarray(TRAIN.labels)[KNOWN]
X = np.asarray(TEST.features["avg"], dtype=float)
CLASSES = len(np.unique(Y))


def scores(z, y, x, **options):
    return np.asarray(create_head("wdiscood", **options).fit(z, y).score(x))


def by_loops(z, y, x, count, weight):
    """Score in float64 by the definition, with a symmetric root where the head has a triangular one."""
    classes = sorted(set(y.tolist()))
    size = z.shape[1]
    within = np.zeros((size, size))
    for row, label in zip(z, y, strict=True):
        apart = row - z[y == label].mean(0)
        within += np.outer(apart, apart) / len(z)
    root = np.linalg.inv(sqrtm(within).real)
    middle, between = root @ z.mean(0), np.zeros((size, size))
    centers = {}
    for label in classes:
        centers[label] = root @ z[y == label].mean(0)
        between += np.outer(centers[label] - middle, centers[label] - middle) / len(classes)
    axes = eigh(between)[1][:, ::-1][:, :count]
    rest = np.eye(size) - axes @ axes.T
    result = []
    for row in x:
        white = root @ row
        near = min(np.sqrt(((axes.T @ (white - center)) ** 2).sum()) for center in centers.values())
        result.append(near + weight * np.sqrt(((rest @ (white - middle)) ** 2).sum()))
    return np.array(result)


def by_scikit_learn(z, y, x, count, weight):
    """Score with the axes of scikit-learn, which weights classes by their rows: another order of the same axes."""
    found = LinearDiscriminantAnalysis(solver="eigen").fit(z, y)
    axes = found.scalings_  # [D, D], in which the covariance within classes is the identity
    near = [np.linalg.norm((x - mean) @ axes[:, :count], axis=1) for mean in found.means_]
    return np.min(near, 0) + weight * np.linalg.norm((x - z.mean(0)) @ axes[:, count:], axis=1)


@pytest.mark.parametrize("weight", [0, 1, 5])
@pytest.mark.parametrize("count", [1, 2, CLASSES - 1])
def test_scores_are_those_of_a_loop(count, weight):
    assert np.bincount(Y).min() < 0.8 * np.bincount(Y).max()  # so that it shows how classes are weighted
    found = scores(Z, Y, X, discriminants=count, weight=weight)
    np.testing.assert_allclose(found, by_loops(Z, Y, X, count, weight), rtol=1e-7)


def test_scores_are_those_of_scikit_learns_axes():
    expected = by_scikit_learn(Z, Y, X, CLASSES - 1, 2)
    np.testing.assert_allclose(scores(Z, Y, X, weight=2), expected, rtol=1e-6)


def test_with_as_many_rows_in_each_class_fewer_axes_are_scikit_learns_too():
    least = np.bincount(Y).min()
    few = np.concatenate([np.flatnonzero(label == Y)[:least] for label in range(CLASSES)])
    z, y = Z[few], Y[few]
    found = scores(z, y, X, discriminants=2)
    np.testing.assert_allclose(found, by_scikit_learn(z, y, X, 2, 1), rtol=1e-6)


def test_there_are_no_more_discriminants_than_directions_in_which_means_differ():
    head = create_head("wdiscood", discriminants=1000).fit(Z, Y)
    assert head.state["means"].shape == (CLASSES, min(CLASSES - 1, Z.shape[1]))
    z, y = np.concatenate([Z, Z + np.eye(Z.shape[1])[0]]), np.concatenate([Y * 0, Y * 0 + 1])
    assert create_head("wdiscood").fit(z, y).state["means"].shape == (2, 1)
    assert create_head("wdiscood").fit(np.concatenate([Z, Z]), y).state["means"].shape == (2, 0)


def test_of_one_class_or_of_equal_means_the_mahalanobis_distance_is_left():
    for z, y in ((Z, Y * 0), (np.concatenate([Z, Z]), np.repeat([0, 1], len(Z)))):
        distances = np.asarray(create_head("mahalanobis").fit(z, y).score(X))
        np.testing.assert_allclose(scores(z, y, X, weight=3), 3 * np.sqrt(distances), rtol=1e-9)


def test_with_more_classes_than_features_and_discriminants_in_all_it_is_the_mahalanobis_distance():
    random = np.random.default_rng(0)
    y = np.arange(400) % 20
    z = random.normal(size=(20, 4))[y] * 3 + random.normal(size=(400, 4))
    distances = np.asarray(create_head("mahalanobis").fit(z, y).score(X[:, :4]))
    np.testing.assert_allclose(scores(z, y, X[:, :4], weight=9), np.sqrt(distances), rtol=1e-7)


def test_a_shift_outside_of_the_classes_counts_by_the_weight_alone():
    """Moving a row in a direction without differences between classes leaves its distance from classes as it is."""
    random = np.random.default_rng(1)
    y = np.arange(600) % 3
    z = random.normal(size=(600, 5))
    z -= np.stack([z[y == label].mean(0) for label in range(3)])[y]
    z += np.eye(3, 5)[y] * 10  # means differ in the first three features alone
    x = z.mean(0, keepdims=True)
    far = x + 7 * np.eye(5)[4]
    assert scores(z, y, far, weight=0) == pytest.approx(scores(z, y, x, weight=0), rel=0.1)
    assert scores(z, y, far, weight=2) - scores(z, y, x, weight=2) == pytest.approx(14, rel=0.1)


def test_singular_covariances_get_the_mahalanobis_heads_ridge():
    z, x = np.concatenate([Z, Z[:, :1]], 1), np.concatenate([X, X[:, :1]], 1)
    with pytest.warns(UserWarning, match="ridge"):
        assert np.isfinite(scores(z, Y, x)).all()
