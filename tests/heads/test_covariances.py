"""The one rule by which covariances are made sound, held against singular value decompositions of the rows."""

import warnings

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import spearmanr

from featood.cache.feature_set import FeatureSet
from featood.errors import DataError
from featood.heads import create_head, list_heads
from featood.heads.base.gaussian_head import GaussianHead
from featood.heads.registry import head_class
from featood.numerics.gaussian import factorize, whitening, whitenings
from featood.numerics.moments import ClassMoments, ScatterByClass

CLASSES = 3


def data(rows=400, size=12, smallest=1.0, seed=0):
    """Rows of classes that lie apart in the first half of the directions; variances fall down to `smallest`."""
    rng = np.random.default_rng(seed)
    axes = np.linalg.qr(np.random.default_rng(99).normal(size=(size, size)))[0]
    scales = np.geomspace(1, smallest, size) ** 0.5
    centers = 2 * np.random.default_rng(98).normal(size=(CLASSES, size)) * (np.arange(size) < size // 2)
    y = rng.integers(0, CLASSES, rows)
    return ((rng.normal(size=(rows, size)) + centers[y]) * scales) @ axes, y


def squared(x, centred, mean, added=0.0):
    """Squared distances from a mean under the covariance of centred rows: half the digits that a covariance loses."""
    _, s, axes = np.linalg.svd(centred, full_matrices=False)
    return (((x - mean) @ axes.T) ** 2 / (s**2 / len(centred) + added)).sum(1)


def centred(z, y):
    return z - np.stack([z[y == c].mean(0) for c in range(CLASSES)])[y]


def nearest(z, y, x, added=0.0):
    return np.min([squared(x, centred(z, y), z[y == c].mean(0), added) for c in range(CLASSES)], axis=0)


# ---- one ridge for all that is compared


@pytest.mark.parametrize("smallest", [1.0, 1e-6, 1e-9])
def test_exact_arithmetic_where_a_direction_is_narrow(smallest):
    z, y = data(smallest=smallest)
    x = data(100, smallest=smallest, seed=1)[0] + 3e-4 * np.random.default_rng(2).normal(size=(100, 12))
    tied, background = nearest(z, y, x), squared(x, z - z.mean(0), z.mean(0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = {name: create_head(name).fit(z, y) for name in ("mahalanobis", "relative-mahalanobis")}
    np.testing.assert_allclose(found["mahalanobis"].score(x), tied, rtol=1e-6)
    np.testing.assert_allclose(
        found["relative-mahalanobis"].score(x), tied - background, atol=1e-6 * tied.max()
    )
    assert not found["mahalanobis"].record.notes and float(found["mahalanobis"].state["ridge"]) == 0


@pytest.mark.parametrize("name", ["relative-mahalanobis", "rmd-pp"])
@pytest.mark.parametrize("ridge", [0.0, 1e-6, 1e-3])
def test_both_covariances_of_a_difference_get_the_same_number(name, ridge):
    z, y = data(smallest=1e-6)
    x = data(100, smallest=1e-6, seed=1)[0]
    found = create_head(name, ridge=ridge).fit(z, y).score(x)
    if name == "rmd-pp":
        z, x = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (z, x))
    added = ridge * (centred(z, y) ** 2).sum() / z.size
    expected = nearest(z, y, x, added) - squared(x, z - z.mean(0), z.mean(0), added)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-5)


def test_factors_of_one_call_share_the_least_ridge_that_makes_all_sound():
    full = torch.eye(4, dtype=torch.float64)
    flat = torch.ones(4, 4, dtype=torch.float64)
    factors, ridge = factorize(torch.stack([full, flat]))
    assert 0 < ridge <= 1e-8
    for factor, matrix in zip(factors, (full, flat), strict=True):
        expected = matrix + ridge * torch.eye(4)
        np.testing.assert_allclose(factor @ factor.T, expected, atol=1e-12)
    for smaller in (0.0, 1e-12):
        if smaller < ridge:
            lower, failed = torch.linalg.cholesky_ex(flat + smaller * torch.eye(4))
            assert bool(failed) or float(lower.diagonal().square().min()) <= 1e-11
    assert factorize(full)[1] == 0.0
    assert factorize(full, 0.5)[1] == 0.5
    assert factorize(full, unit=torch.tensor(8.0), ridge=0.25)[0][0, 0] == pytest.approx(3**0.5)


def test_a_pivot_of_rounding_errors_is_no_factor():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(300, 5)) @ rng.normal(
        size=(5, 9)
    )  # rank 5 of 9: Cholesky may succeed by accident
    assert factorize(torch.tensor(np.cov(rows.T)))[1] > 0


def test_the_first_covariance_is_the_unit_of_the_ridge():
    within, total = 2 * torch.eye(3, dtype=torch.float64), 50 * torch.eye(3, dtype=torch.float64)
    small, large = whitenings(torch.zeros(3), [within, total], ridge=0.5)
    np.testing.assert_allclose(small.matrix, torch.eye(3) / 3**0.5)
    np.testing.assert_allclose(large.matrix, torch.eye(3) / 51**0.5)
    np.testing.assert_allclose(small.log_det, 3 * np.log(3))
    assert float(whitening(torch.zeros(3), within, 0.5).ridge) == 0.5


@pytest.mark.parametrize("covariance", ["full", "diag"])
def test_classes_get_one_ridge_where_one_is_singular(covariance):
    z, y = data(900)
    z[y == 1, 4] = 0.5  # dead in one class
    x = data(50, seed=1)[0]
    with pytest.warns(UserWarning, match="was added to all"):
        head = create_head("gmm", covariance=covariance).fit(z, y)
    ridge = float(head.state["ridge"])
    assert 0 < ridge <= 1e-9
    added = ridge * (centred(z, y) ** 2).sum() / len(z) / z.shape[1]
    found = []
    for c in range(CLASSES):
        cov = np.cov(z[y == c].T)
        values, axes = np.linalg.eigh(np.diag(np.diag(cov)) if covariance == "diag" else cov)
        values = values.clip(0) + added
        distance = (((x - z[y == c].mean(0)) @ axes) ** 2 / values).sum(1)
        found.append(np.log((y == c).mean()) - 0.5 * (distance + np.log(2 * np.pi * values).sum()))
    np.testing.assert_allclose(head.score(x), -logsumexp(found, axis=0), rtol=1e-5)


def test_classes_in_groups_get_one_ridge(monkeypatch):
    z, y = data(900)
    z[y == 2, 4] = 0.5
    x = data(50, seed=1)[0]
    whole = create_head("gmm").fit(z, y)
    monkeypatch.setattr("featood.numerics.class_gaussians.CHUNK_BYTES", 1)
    grouped = create_head("gmm").fit(z, y)
    assert torch.equal(grouped.state["ridge"], whole.state["ridge"])
    np.testing.assert_allclose(grouped.state["matrices"], whole.state["matrices"], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(grouped.score(x), whole.score(x), rtol=1e-9)


def test_fewer_rows_than_features_take_the_least_sound_ridge_and_say_so():
    z, y = data(30, size=60)
    with pytest.warns(UserWarning, match=r"ridge of 1e-1\d of the mean variance was added .*shrinkage"):
        head = create_head("mahalanobis").fit(z, y)
    assert float(head.state["ridge"]) <= 1e-9 and any("singular" in note for note in head.record.notes)
    z2 = data(20, size=60, seed=1)[0]
    assert np.isfinite(head.score(z2)).all()


@pytest.mark.parametrize("name", ["mahalanobis", "relative-mahalanobis", "gmm", "gem", "multi-mahalanobis"])
def test_scales_of_features_change_nothing(name):
    z, y = data()
    x = data(60, seed=1)[0]
    scales = 10.0 ** np.linspace(-7, 7, z.shape[1])
    plain = create_head(name).fit(z, y).score(x)
    moved = create_head(name).fit(z * scales, y).score(x * scales)
    constant = moved.mean() - plain.mean() if name == "gmm" else 0  # densities change by the volume
    np.testing.assert_allclose(moved - constant, plain, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("scale", [1e-18, 1e18])
@pytest.mark.parametrize("name", ["mahalanobis", "relative-mahalanobis", "gmm", "ssd"])
def test_any_scale_with_a_singular_covariance(name, scale):
    z, y = data(200)
    z, x = np.concatenate([z, z[:, :2]], 1), data(60, seed=1)[0]
    x = np.concatenate([x, x[:, :2]], 1)
    plain = create_head(name).fit(z, y).score(x)
    assert spearmanr(create_head(name).fit(scale * z, y).score(scale * x), plain).statistic > 0.999


def test_float32_rows_are_whitened_in_float64():
    z, y = data(600, smallest=1e-9)
    z, x = z.astype(np.float32), data(80, smallest=1e-9, seed=1)[0].astype(np.float32)
    expected = create_head("mahalanobis").fit(z.astype(float), y).score(x.astype(float))
    np.testing.assert_allclose(create_head("mahalanobis").fit(z, y).score(x), expected, rtol=1e-9)


# ---- features that are constant in training

DEAD_HEADS = [
    ("mahalanobis", {}),
    ("gem", {}),
    ("multi-mahalanobis", {"weights": "equal"}),
    ("gmm", {"covariance": "full"}),
    ("gmm", {"covariance": "tied"}),
    ("gmm", {"covariance": "diag"}),
    ("ssd", {}),
    ("mahalanobis-pp", {}),
    ("mahalanobis-odin", {"perturbed": "features"}),
    ("wdiscood", {}),
]


def test_every_head_with_a_covariance_follows_the_rule():
    names = {name for name in list_heads() if issubclass(head_class(name), GaussianHead)}
    missing = names - {*dict(DEAD_HEADS), "relative-mahalanobis", "rmd-pp"}
    assert not missing, "add them to DEAD_HEADS"


@pytest.mark.parametrize(("name", "options"), DEAD_HEADS)
@pytest.mark.parametrize("value", [0.0, 0.1, -1e5])
def test_a_constant_feature_is_narrow_or_left_out(name, options, value):
    z, y = data()
    asleep, x = data(60, seed=1)[0], data(60, seed=1)[0]
    place = [4]
    z, asleep = (np.insert(rows, place, value, axis=1) for rows in (z, asleep))
    awake = asleep.copy()
    awake[:, 4] += 1
    if name in ("ssd", "mahalanobis-pp"):
        if value:
            return  # of unit length, it varies
        awake[:, 4] = 0
        asleep = awake
    without = create_head(name, **options).fit(np.delete(z, 4, axis=1), y).score(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ignoring = create_head(name, dead="ignore", **options).fit(z, y)
    for rows in (asleep, awake):
        np.testing.assert_allclose(ignoring.score(rows), without, rtol=1e-6, atol=1e-6)
    with pytest.warns(UserWarning, match="singular"):
        narrow = create_head(name, **options).fit(z, y)
    if name not in ("ssd", "mahalanobis-pp"):
        assert narrow.score(awake).min() > 1e6
    assert spearmanr(narrow.score(asleep), without).statistic > 0.9999


@pytest.mark.parametrize("dead", ["narrow", "ignore"])
def test_a_constant_feature_cancels_in_a_difference(dead):
    z, y = data()
    x = data(60, seed=1)[0]
    expected = create_head("relative-mahalanobis").fit(z, y).score(x)
    z, asleep = (np.insert(rows, [4], 0.7, axis=1) for rows in (z, x))
    awake = asleep.copy()
    awake[:, 4] += 1e3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        head = create_head("relative-mahalanobis", dead=dead).fit(z, y)
    for rows in (asleep, awake):
        np.testing.assert_allclose(head.score(rows), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("offset", [0.0, 1.0, 1e4])
def test_a_feature_that_is_constant_within_classes_has_no_variance_within(offset):
    z, y = data(300)
    z[:, 3] = 0.1 * y + offset
    moments = None
    for part in np.array_split(np.argsort(y, kind="stable"), 7):  # class by class: means far from the shift
        moments = ClassMoments.of(torch.tensor(z[part]), torch.tensor(y[part]), moments)
    within = moments.within_covariance()
    assert not within[3].any() and not within[:, 3].any()
    assert float(moments.covariance()[3, 3]) == pytest.approx(z[:, 3].var(), rel=1e-6)
    for diagonal in (False, True):
        by_class = ScatterByClass.of(torch.tensor(z), torch.tensor(y), diagonal=diagonal).covariances()
        assert not (by_class[:, 3] if diagonal else by_class[:, 3, 3]).any()
    with pytest.warns(UserWarning, match="singular"):
        head = create_head("mahalanobis").fit(z, y)
    assert np.median(head.score(z)) < 30


def test_a_feature_that_hardly_varies_is_alive():
    z, y = data(300)
    z[:, 3] = 1 + 1e-6 * z[:, 3]
    x = data(60, seed=1)[0]
    moved = x.copy()
    moved[:, 3] = 1 + 1e-6 * moved[:, 3]
    plain = create_head("mahalanobis").fit(data(300)[0], y).score(x)
    np.testing.assert_allclose(create_head("mahalanobis").fit(z, y).score(moved), plain, rtol=1e-5)


def test_no_variance_at_all():
    for name in ("mahalanobis", "relative-mahalanobis", "gmm"):
        with pytest.raises(DataError, match="are identical"):
            create_head(name).fit(np.ones((5, 3)), np.zeros(5, int))
    one = create_head("mahalanobis").fit(np.arange(6.0)[:, None], np.zeros(6, int))  # one feature
    np.testing.assert_allclose(one.score(np.array([[10.0]])), (10 - 2.5) ** 2 / np.var(np.arange(6)))


def test_layers_get_a_ridge_each():
    z, y = data(300)
    flat = np.concatenate([z, z[:, :1]], 1)
    train = FeatureSet({"a.avg": z, "b.avg": flat}, labels=y, main="a.avg")
    with pytest.warns(UserWarning, match=r"tied covariance of b\.avg is singular"):
        head = create_head("multi-mahalanobis").fit(train)
    assert float(head.state["a.avg/ridge"]) == 0 and float(head.state["b.avg/ridge"]) > 0
