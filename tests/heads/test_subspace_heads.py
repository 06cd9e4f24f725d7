import dataclasses

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from sklearn.decomposition import PCA
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.preprocessing import StandardScaler

from featood.cache.feature_set import FeatureSet
from featood.errors import DataError, UsageError
from featood.heads import create_head
from featood.numerics.subspaces import explaining, principal_axes, rank, subspace
from featood.testing.fixture import synthetic_sets, with_main

TRAIN, TEST = synthetic_sets()
W, B = (np.asarray(part, dtype=float) for part in TRAIN.classifier)
KNOWN = np.asarray(TRAIN.labels) >= 0
Z = np.asarray(TRAIN.features["avg"], dtype=float)[KNOWN]
X = np.asarray(TEST.features["avg"], dtype=float)
SIZE = Z.shape[1]


def scores(name, train=TRAIN, test=TEST, **options):
    return create_head(name, **options).fit(train).score(test)


def leading(rows, dim):
    """Principal directions of rows about zero, by the singular vectors of the rows themselves."""
    return np.linalg.svd(rows)[2][:dim]


def outside(rows, directions):
    found = []
    for row in rows:
        part = row.copy()
        for direction in directions:
            part -= (row @ direction) * direction
        found.append(np.sqrt((part**2).sum()))
    return np.array(found)


# ---- ViM and its residual


def residuals(dim):
    u = -np.linalg.pinv(W, rcond=1e-6) @ B  # the rows of this W sum to zero, up to rounding
    directions = leading(Z - u, dim)
    return outside(X - u, directions), outside(Z - u, directions)


def virtual_logit_matching(dim):
    test, train = residuals(dim)
    alpha = (Z @ W.T + B).max(1).mean() / train.mean()
    return [alpha * r - logsumexp(W @ x + B) for r, x in zip(test, X, strict=True)]


@pytest.mark.parametrize(
    "dim", [3, 12, 20]
)  # the basis is of the subspace for the first two, of the rest for the last
def test_residual(dim):
    np.testing.assert_allclose(scores("residual", dim=dim), residuals(dim)[0], rtol=1e-6)


@pytest.mark.parametrize("dim", [3, 12, 20])
def test_vim(dim):
    np.testing.assert_allclose(scores("vim", dim=dim), virtual_logit_matching(dim), rtol=1e-6, atol=1e-5)


def test_vim_takes_half_of_a_small_feature():
    np.testing.assert_allclose(scores("vim"), virtual_logit_matching(SIZE // 2), rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize(("size", "dim"), [(40, 20), (768, 512), (1500, 1000)])
def test_usual_dimensions(size, dim):
    rng = np.random.default_rng(0)
    z = rng.normal(size=(size + 200, size)).astype(np.float32)
    layer = rng.normal(size=(3, size)).astype(np.float32), np.zeros(3, np.float32)
    basis = create_head("residual").fit(FeatureSet({"avg": z}, classifier=layer)).state["basis"]
    assert basis.shape[1] == min(dim, size - dim)


def test_vim_equals_pytorch_ood(detectors):
    theirs = detectors.ViM(None, 8, torch.tensor(W), torch.tensor(B))
    theirs.fit_features(torch.tensor(Z).float(), torch.zeros(len(Z), dtype=torch.long))
    np.testing.assert_allclose(
        scores("vim", dim=8), theirs.predict_features(torch.tensor(X).float()), rtol=1e-4, atol=1e-4
    )


def flat(data, spanned):
    """Features that span only some directions."""
    values = data.features["avg"].copy()
    values[:, spanned:] = 0
    return with_main(data, values)


@pytest.mark.parametrize("name", ["residual", "vim"])
def test_dimension_must_leave_a_residual(name):
    with pytest.raises(UsageError, match="24 dimensions"):
        scores(name, dim=SIZE)
    with pytest.raises(UsageError, match="span 7 of 24"):  # six, and the way to the origin
        scores(name, train=flat(TRAIN, 6), dim=7)
    with pytest.raises(DataError, match="one dimension"):
        scores(name, train=dataclasses.replace(flat(TRAIN, 1), classifier=(W, np.zeros_like(B))))


def test_vim_default_adapts_to_the_rank():
    head = create_head("vim").fit(flat(TRAIN, 8))
    assert head.state["basis"].shape[1] == 9 // 2
    assert (np.abs(head.score(flat(TEST, 8))) < 1e3).all()


# ---- NECO


@pytest.mark.parametrize("max_logit", [True, False])
def test_neco_against_scikit_learn(max_logit):
    scaler = StandardScaler().fit(Z)
    pca = PCA().fit(scaler.transform(Z))
    inside = pca.transform(scaler.transform(X))[:, :7]
    expected = -np.linalg.norm(inside, axis=1) / np.linalg.norm(scaler.transform(X), axis=1)
    if max_logit:
        expected *= (X @ W.T + B).max(1)
    np.testing.assert_allclose(scores("neco", dim=7, max_logit=max_logit), expected, rtol=1e-5)


def test_neco_explains_a_share_of_the_variance():
    ratios = PCA().fit(StandardScaler().fit_transform(Z)).explained_variance_ratio_
    dim = int(np.argmax(ratios.cumsum() >= 0.6)) + 1
    np.testing.assert_allclose(scores("neco", explained=0.6), scores("neco", dim=dim), rtol=1e-9)


def test_neco_with_a_feature_that_wakes_up():
    head = create_head("neco", max_logit=False).fit(flat(TRAIN, 20))
    awake, asleep = head.score(TEST), head.score(flat(TEST, 20))
    assert (awake >= asleep).all() and awake.mean() > asleep.mean() + 0.01
    with pytest.raises(DataError, match="are identical"):
        create_head("neco").fit(with_main(TRAIN, np.ones_like(TRAIN.features["avg"])))


# ---- reconstruction


@pytest.mark.parametrize("dim", [0, 5, 20])
def test_pca_reconstruction_against_scikit_learn(dim):
    pca = PCA(dim or SIZE // 8).fit(Z)
    error = X - pca.inverse_transform(pca.transform(X))
    expected = np.linalg.norm(error, axis=1) / np.linalg.norm(X, axis=1)
    np.testing.assert_allclose(scores("pca-reconstruction", dim=dim), expected, rtol=1e-6)


def test_kernel_pca_with_the_cosine_kernel_against_scikit_learn():
    z, x = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (Z, X))
    pca = PCA(0.85, svd_solver="full").fit(z)
    expected = np.linalg.norm(x - pca.inverse_transform(pca.transform(x)), axis=1)
    np.testing.assert_allclose(scores("kpca", kernel="cosine", explained=0.85), expected, rtol=1e-5)


def test_kernel_pca_approaches_the_exact_kernel():
    # the error in feature space by the kernel alone: |phi - mean|^2 less the squares of the components
    z, x = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (Z, X))
    gram, cross = rbf_kernel(z, gamma=2.0), rbf_kernel(x, z, gamma=2.0)
    centered = gram - gram.mean(0) - gram.mean(1)[:, None] + gram.mean()
    centered_cross = cross - gram.mean(0) - cross.mean(1)[:, None] + gram.mean()
    values, vectors = np.linalg.eigh(centered)
    values, vectors = values[::-1], vectors[:, ::-1]
    count = int(np.argmax(values.cumsum() >= 0.8 * values.sum())) + 1
    components = centered_cross @ vectors[:, :count] / np.sqrt(values[:count])
    expected = 1 - 2 * cross.mean(1) + gram.mean() - (components**2).sum(1)
    found = np.mean([scores("kpca", size=800, seed=seed) ** 2 for seed in range(4)], axis=0)
    assert np.corrcoef(found, expected)[0, 1] > 0.98
    np.testing.assert_allclose(found.mean(), expected.mean(), rtol=0.1)


def test_kernel_pca_is_seeded():
    one = scores("kpca", size=50, seed=1)
    assert np.array_equal(one, scores("kpca", size=50, seed=1))
    assert not np.allclose(one, scores("kpca", size=50, seed=2))


# ---- subspaces


@pytest.mark.parametrize("dim", [1, 4, 6, 8])
@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("narrow", [1.0, 1e-4])
def test_lengths_inside_and_outside_of_a_subspace(dim, inside, narrow):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(50, 8)) * np.arange(1, 9)
    rows[:, : 8 - dim] *= narrow
    values, axes = principal_axes(torch.tensor(rows.T @ rows))
    space = subspace(axes, values, dim, inside=inside)
    center = torch.tensor(rng.normal(size=8))
    moved = torch.tensor(rows) + center
    found = space.inside(moved, center) if inside else space.outside(moved, center)
    expected = (
        np.linalg.norm(rows @ leading(rows, dim).T, axis=1) if inside else outside(rows, leading(rows, dim))
    )
    # float32 only where the component is large enough for it, and its basis at most twice as large as the other
    wanted, other = (dim, 8 - dim) if inside else (8 - dim, dim)
    float32 = 0 < wanted <= 2 * other and (inside or narrow == 1)
    assert space.basis.dtype == (torch.float32 if float32 else torch.float64)
    assert space.basis.shape[1] == (wanted if float32 else min(dim, 8 - dim))
    # rounding is relative to the whole row; Pythagoras loses half of the digits of float64
    size = np.linalg.norm(rows, axis=1).max()
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=size * (1e-7 if float32 else 1e-8))
    assert bool((values.diff() <= 0).all())


def test_explained_share_and_rank():
    values = torch.tensor([5.0, 3.0, 2.0, 0.0])
    assert [explaining(values, share) for share in (0.1, 0.5, 0.51, 0.8, 0.81, 1.0)] == [1, 1, 2, 2, 3, 3]
    assert rank(values) == 3


@pytest.mark.parametrize("bias", ["own", "none"])
def test_vim_of_a_singular_classifier(bias):
    """Two classes with the same weights: the way to the origin is that of the pseudo-inverse."""
    weight, offset = W.copy(), B.copy() if bias == "own" else np.zeros_like(B)
    weight[1] = weight[0]
    test, train = (
        dataclasses.replace(data, classifier=(weight, offset), logits=None) for data in (TEST, TRAIN)
    )
    u = -np.linalg.pinv(weight, rcond=1e-6) @ offset
    directions = leading(Z - u, 12)
    alpha = (Z @ weight.T + offset).max(1).mean() / outside(Z - u, directions).mean()
    expected = alpha * outside(X - u, directions) - logsumexp(X @ weight.T + offset, axis=1)
    np.testing.assert_allclose(scores("vim", train, test, dim=12), expected, rtol=1e-4)
