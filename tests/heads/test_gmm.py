import numpy as np
import pytest
from scipy.special import xlogy
from scipy.stats import multivariate_normal
from sklearn.mixture import GaussianMixture

from featood.errors import DataError, UsageError
from featood.heads import ask, create_head, load_head
from featood.numerics import class_gaussians as module
from featood.numerics import memory

CLASSES, SIZE = 3, 4


def data(rows=200, seed=0, offset=0.0):
    rng = np.random.default_rng(seed)
    labels = rng.choice(CLASSES, rows, p=[0.6, 0.3, 0.1])
    mixing = rng.normal(size=(CLASSES, SIZE, SIZE))
    centers = 3 * rng.normal(size=(CLASSES, SIZE))
    x = np.einsum("nd,nde->ne", rng.normal(size=(rows, SIZE)), mixing[labels]) + centers[labels] + offset
    return x, labels


def oracle(x, labels, test, covariance="full", uniform=False, ridge=0.0):
    covs, residual = [], []
    for c in range(CLASSES):
        rows = x[labels == c]
        covs.append(np.cov(rows.T))
        residual.append(rows - rows.mean(0))
    if covariance == "tied":
        residual = np.concatenate(residual)
        covs = [residual.T @ residual / len(x)] * CLASSES
    within = np.concatenate([x[labels == c] - x[labels == c].mean(0) for c in range(CLASSES)])
    unit = (within**2).sum() / len(x) / SIZE
    density = np.zeros(len(test))
    for c in range(CLASSES):
        cov = np.diag(np.diag(covs[c])) if covariance == "diag" else covs[c]
        cov = cov + ridge * unit * np.eye(SIZE)
        weight = 1 / CLASSES if uniform else (labels == c).mean()
        density += weight * multivariate_normal(x[labels == c].mean(0), cov).pdf(test)
    return -np.log(density)


@pytest.mark.parametrize("covariance", ["full", "tied", "diag"])
@pytest.mark.parametrize("uniform", [False, True])
@pytest.mark.parametrize("ridge", [0.0, 0.1])
def test_density_class_by_class(covariance, uniform, ridge):
    x, labels = data()
    test = data(50, seed=1)[0] / 2
    head = create_head("gmm", covariance=covariance, uniform=uniform, ridge=ridge).fit(x, labels)
    expected = oracle(x, labels, test, covariance, uniform, ridge)
    np.testing.assert_allclose(head.score(test), expected, rtol=1e-9)


@pytest.mark.parametrize("covariance", ["full", "tied", "diag"])
@pytest.mark.parametrize("uniform", [False, True])
def test_entropy_of_the_class_probabilities(covariance, uniform):
    x, labels = data()
    test = data(50, seed=1)[0] / 2
    head = create_head("gmm", covariance=covariance, uniform=uniform).fit(x, labels)
    shares = np.full(CLASSES, 1 / CLASSES) if uniform else np.bincount(labels) / len(labels)
    covs = [np.cov(x[labels == c].T) for c in range(CLASSES)]
    if covariance == "diag":
        covs = [np.diag(np.diag(cov)) for cov in covs]
    if covariance == "tied":
        covs = [sum(cov * (sum(labels == c) - 1) for c, cov in enumerate(covs)) / len(x)] * CLASSES
    densities = [multivariate_normal(x[labels == c].mean(0), covs[c]).pdf(test) for c in range(CLASSES)]
    p = np.stack(densities, 1) * shares
    p /= p.sum(1, keepdims=True)
    np.testing.assert_allclose(ask(head, "entropy").score(test), -xlogy(p, p).sum(1), rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("covariance", ["full", "tied", "diag"])
def test_float32_rows_far_from_the_origin(covariance):
    x, labels = data(400, offset=1000.0)
    x = x.astype(np.float32)
    expected = oracle(x.astype(float), labels, x[:50].astype(float), covariance)
    head = create_head("gmm", covariance=covariance).fit(x, labels)
    np.testing.assert_allclose(head.score(x[:50]), expected, rtol=1e-4)


def test_agrees_with_scikit_learn():
    x, labels = data()
    head = create_head("gmm", ridge=0.0).fit(x, labels)
    peer = GaussianMixture(CLASSES, covariance_type="full")
    peer.weights_ = np.bincount(labels) / len(labels)
    peer.means_ = np.stack([x[labels == c].mean(0) for c in range(CLASSES)])
    covariances = np.stack([np.cov(x[labels == c].T) for c in range(CLASSES)])
    peer.precisions_cholesky_ = np.stack([np.linalg.cholesky(np.linalg.inv(cov)) for cov in covariances])
    np.testing.assert_allclose(head.score(x), -peer.score_samples(x), rtol=1e-9)


def test_normalized_rows():
    x, labels = data()
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    plain = create_head("gmm").fit(unit, labels).score(unit[:20])
    np.testing.assert_allclose(create_head("gmm", space="l2").fit(3 * x, labels).score(x[:20]), plain)


def test_classes_in_chunks(monkeypatch):
    x, labels = data()
    head = create_head("gmm").fit(x, labels)
    whole = head.score(x)
    monkeypatch.setattr(module, "CHUNK_BYTES", 1)
    np.testing.assert_allclose(head.score(x), whole, rtol=1e-12)


def test_far_rows_stay_apart():
    # a density outside log space would give all of them one value
    x, labels = data()
    for covariance in ("full", "tied", "diag"):
        head = create_head("gmm", covariance=covariance).fit(x.astype(np.float32), labels)
        far = np.array([1e2, 1e4, 1e6, 1e8], np.float32)[:, None] * x[:1].astype(np.float32)
        scores = head.score(far)
        assert np.isfinite(scores).all() and (np.diff(scores) > 0).all()


@pytest.mark.parametrize("covariance", ["full", "tied", "diag"])
def test_a_class_with_one_row_and_one_without(covariance):
    x, labels = data()
    sparse = np.where(labels == 2, 4, labels)
    keep = (sparse != 4) | (np.arange(len(x)) == np.flatnonzero(sparse == 4)[0])
    head = create_head("gmm", covariance=covariance).fit(x[keep], sparse[keep])
    scores = head.score(x)
    assert np.isfinite(scores).all()
    lonely = np.flatnonzero(sparse == 4)[0]
    assert scores[lonely] < np.median(scores[sparse == 4]), "the class's only row is its mean"


def test_a_class_with_one_row_takes_the_mean_covariance():
    x, labels = data(100)
    lonely = np.full((1, SIZE), 50.0)
    head = create_head("gmm", ridge=0.0).fit(np.concatenate([x, lonely]), np.append(labels, 3))
    count = np.bincount(labels)
    pooled = sum(n * np.cov(x[labels == c].T) for c, n in enumerate(count)) / count.sum()
    expected = -np.log(1 / 101) - multivariate_normal(lonely[0], pooled).logpdf(lonely[0] + 1)
    assert head.score(lonely + 1)[0] == pytest.approx(expected, rel=1e-9)


def test_singular_classes_are_noted():
    x, labels = data(30)
    wide = np.concatenate([x, x, np.zeros_like(x)], 1)
    with pytest.warns(UserWarning, match="class covariances are singular"):
        head = create_head("gmm", ridge=0.0).fit(wide, labels)
    assert any("singular" in note for note in head.record.notes)
    assert any("no more rows" in note for note in head.record.notes)
    assert np.isfinite(head.score(wide)).all()
    alive = wide.copy()
    alive[:, -1] = 1.0
    assert (head.score(alive) > head.score(wide).max()).all(), "a feature dead in training is narrow"


def test_errors():
    x, _ = data()
    with pytest.raises(DataError, match="is zero"):
        create_head("gmm").fit(x[:3], np.arange(3))
    with pytest.raises(DataError, match="identical"):
        create_head("gmm", covariance="diag").fit(x[:3], np.arange(3))
    with pytest.raises(UsageError, match="omit it with diag"):
        create_head("gmm", covariance="diag", shrinkage="oas")


def test_too_many_covariances_are_refused(monkeypatch):
    x, labels = data()
    monkeypatch.setattr(memory, "available_memory", lambda device: 100)
    for fit in (create_head("gmm").fit, create_head("gmm").partial_fit):
        with pytest.raises(
            UsageError, match=r"3 classes in 4 features need .* use --covariance tied or diag"
        ):
            fit(x, labels)
    create_head("gmm", covariance="diag").fit(x, labels)


def test_saved(tmp_path):
    x, labels = data()
    for covariance in ("full", "tied", "diag"):
        head = create_head("gmm", covariance=covariance).fit(x, labels)
        head.save(tmp_path / covariance)
        assert np.array_equal(load_head(tmp_path / covariance).score(x), head.score(x))
