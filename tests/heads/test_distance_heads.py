import dataclasses
import functools
import math

import numpy as np
import pytest
import torch
from scipy.special import logsumexp, softmax
from scipy.stats import wasserstein_distance

from featood.cache.feature_set import FeatureSet
from featood.errors import DataError, FeatoodError, UsageError
from featood.heads import create_head
from featood.heads.base.rows import SelectedRows
from featood.heads.base.sampling import sampled_blocks
from featood.heads.distances import nnguide as nnguide_module
from featood.numerics.neighbours import build_index
from featood.numerics.spaces import unit
from featood.testing.fixture import Blockwise, synthetic_sets

TRAIN, TEST = synthetic_sets()
W, B = (np.asarray(part, dtype=float) for part in TRAIN.classifier)
KNOWN = np.asarray(TRAIN.labels) >= 0
Z = np.asarray(TRAIN.features["avg"], dtype=float)[KNOWN]
Y = np.asarray(TRAIN.labels)[KNOWN]
L = np.asarray(TRAIN.logits, dtype=float)[KNOWN]
X = np.asarray(TEST.features["avg"], dtype=float)
CLASSES = len(B)


def scores(name, train=TRAIN, test=TEST, **options):
    return create_head(name, **options).fit(train).score(test)


def lengthened(rows):
    return np.array([row / np.sqrt((row**2).sum()) for row in rows])


def class_means(z, y):
    return np.array([z[y == c].mean(0) for c in range(y.max() + 1)])


# ---- inner products


def patterns():
    right = L.argmax(1) == Y
    return np.array([Z[right & (c == Y)].mean(0) for c in range(CLASSES)])


def test_she():
    memory, logits = patterns(), X @ W.T + B
    expected = [-row @ memory[np.argmax(logit)] for row, logit in zip(X, logits, strict=True)]
    np.testing.assert_allclose(scores("she"), expected, rtol=1e-5)


def test_she_equals_pytorch_ood(detectors):
    theirs = detectors.SHE(None, torch_head()).fit_features(torch.tensor(Z).float(), torch.tensor(Y))
    expected = theirs.predict_features(torch.tensor(X).float())
    np.testing.assert_allclose(scores("she"), expected, rtol=1e-4)


def test_she_passes_over_a_class_without_pattern():
    missing = np.bincount((X @ W.T + B).argmax(1), minlength=CLASSES).argmax()
    labels = np.where(np.asarray(TRAIN.labels) == missing, (missing + 1) % CLASSES, TRAIN.labels)
    logits = X @ W.T + B
    logits[:, missing] = -np.inf
    found = scores("she", train=dataclasses.replace(TRAIN, labels=labels))
    memory = patterns()
    expected = [-row @ memory[np.argmax(logit)] for row, logit in zip(X, logits, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_she_refuses_labels_that_never_agree():
    wrong = (np.asarray(TRAIN.logits).argmax(1) + 1) % CLASSES
    with pytest.raises(DataError, match="classified correctly"):
        scores("she", train=dataclasses.replace(TRAIN, labels=wrong))


def test_cosine():
    means = class_means(Z, Y)
    expected = [
        -max(x @ mean / np.linalg.norm(x) / np.linalg.norm(mean) for mean in means) if x.any() else 0
        for x in X
    ]
    np.testing.assert_allclose(scores("cosine"), expected, rtol=1e-5)


@pytest.mark.parametrize("which", ["max", "logsumexp"])
def test_mean_logits(which):
    reduce = max if which == "max" else logsumexp
    expected = [-reduce([x @ mean for mean in class_means(Z, Y)]) for x in X]
    np.testing.assert_allclose(scores("mean-logits", which=which), expected, rtol=1e-6)


def test_otod_against_scipy():
    def distance(row):
        row = row / np.linalg.norm(row)
        return min(wasserstein_distance(row, np.full(len(row), c)) for c in (0, 1 / len(row)))

    vectors = X, X @ W.T + B, softmax((X @ W.T + B) / 3, axis=1)
    expected = np.mean([[distance(row) for row in rows] for rows in vectors], axis=0)
    np.testing.assert_allclose(create_head("otod").score(TEST), expected, rtol=1e-5)


def test_norm_needs_no_fit():
    np.testing.assert_allclose(
        create_head("norm").score(TEST), [-math.sqrt(sum(x * x)) for x in X], rtol=1e-6
    )


# ---- nearest neighbour guidance


def guided(bank, energies, k):
    found = []
    for row, energy in zip(lengthened(X), logsumexp(X @ W.T + B, axis=1), strict=True):
        similar = sorted((row @ other * e for other, e in zip(bank, energies, strict=True)), reverse=True)
        found.append(-energy * np.mean(similar[:k]))
    return found


def test_nnguide():
    np.testing.assert_allclose(scores("nnguide"), guided(lengthened(Z), logsumexp(L, axis=1), 10), rtol=1e-4)


def test_nnguide_equals_pytorch_ood(detectors):
    theirs = detectors.NNGuide(None, torch_head(), k=7).fit_features(torch.tensor(Z).float(), torch.tensor(Y))
    expected = theirs.predict_features(torch.tensor(X).float())
    np.testing.assert_allclose(scores("nnguide", k=7), expected, rtol=1e-4)


def test_nnguide_does_not_depend_on_the_search(monkeypatch):
    found = {}
    for screen in (True, False):
        monkeypatch.setattr(nnguide_module, "build_index", functools.partial(build_index, screen=screen))
        found[screen] = scores("nnguide")
    np.testing.assert_allclose(found[True], found[False], rtol=1e-12)


@pytest.mark.parametrize("space", ["none", "l2"])
@pytest.mark.parametrize("screen", [True, False])
def test_nnguide_keeps_narrow_features_as_they_are(space, screen, monkeypatch):
    monkeypatch.setattr(nnguide_module, "build_index", functools.partial(build_index, screen=screen))

    def narrowed(rows, kind):
        return dataclasses.replace(rows, features={"avg": rows.features["avg"].astype("f2").astype(kind)})

    heads = [create_head("nnguide", space=space).fit(narrowed(TRAIN, kind)) for kind in ("f2", "f4")]
    assert heads[0].state["rows"].dtype == torch.float16 and "rows" not in heads[1].state
    np.testing.assert_array_equal(*(head.score(narrowed(TEST, "f2")) for head in heads))


def test_nnguide_with_more_neighbours_than_rows_takes_all():
    np.testing.assert_allclose(
        scores("nnguide", k=10**6), guided(lengthened(Z), logsumexp(L, axis=1), len(Z)), rtol=1e-4
    )


def test_nnguide_keeps_a_share_of_the_rows():
    known = TRAIN.rows(KNOWN)
    head = create_head("nnguide", fraction=0.1, seed=3).fit(known)
    bank = head.state["bank"].numpy()
    assert len(bank) == round(0.1 * len(known))
    whole = lengthened(Z) * logsumexp(L, axis=1)[:, None]
    nearest = [np.abs(whole - row).max(1).argmin() for row in bank]
    np.testing.assert_allclose(bank, whole[nearest], rtol=1e-4, atol=1e-5)
    assert nearest == sorted(set(nearest))
    other = create_head("nnguide", fraction=0.1, seed=4).fit(known).state["bank"].numpy()
    assert not np.array_equal(bank, other)


def test_sample_does_not_depend_on_blocks():
    samples = []
    for source in (TRAIN, Blockwise.of(TRAIN)):
        rows = SelectedRows(source, ["avg", "labels"], known_only=True)
        samples.append(torch.cat([block.features["avg"] for block in sampled_blocks(rows, 50, seed=1)]))
    assert 30 < len(samples[0]) <= 50  # of the 50 drawn, those with a known label
    assert torch.equal(*samples)


# ---- the classifier's geometry


def torch_head():
    head = torch.nn.Linear(*W.shape[::-1])
    head.weight.data, head.bias.data = torch.tensor(W).float(), torch.tensor(B).float()
    return head


def test_fdbd():
    mean, expected = Z.mean(0), []
    for x in X:
        logits = W @ x + B
        y = logits.argmax()
        gaps = [abs(logits[y] - logits[c]) / np.linalg.norm(W[y] - W[c]) for c in range(CLASSES) if c != y]
        expected.append(-np.mean(gaps) / np.linalg.norm(x - mean))
    np.testing.assert_allclose(scores("fdbd"), expected, rtol=1e-5)


def test_fdbd_equals_pytorch_ood(detectors):
    theirs = detectors.fDBD(None, torch_head()).fit_features(torch.tensor(Z).float())
    np.testing.assert_allclose(scores("fdbd"), theirs.predict_features(torch.tensor(X).float()), rtol=1e-4)


def test_fdbd_relative_to_the_norm():
    distance = np.linalg.norm(X - Z.mean(0), axis=1) / np.linalg.norm(X, axis=1)
    np.testing.assert_allclose(scores("fdbd", relative_to="norm"), scores("fdbd") * distance, rtol=1e-5)
    empty = FeatureSet({"avg": np.zeros((1, X.shape[1]))})
    assert np.isfinite(scores("fdbd", test=empty, relative_to="norm"))


def test_fdbd_with_twin_classes_and_a_row_on_the_mean():
    weight = np.concatenate([W, W[:1]]).astype(np.float32)
    twins = dataclasses.replace(
        TRAIN, logits=None, classifier=(weight, np.append(B, B[0]).astype(np.float32))
    )
    on_mean = FeatureSet({"avg": Z.mean(0, keepdims=True)})
    head = create_head("fdbd").fit(twins)
    assert (np.abs(head.score(TEST)) < 1e3).all()
    assert head.score(on_mean)[0] < head.score(TEST).min()


def test_nci():
    mean, expected = Z.mean(0), []
    for x in X:
        weight = W[(W @ x + B).argmax()]
        expected.append(-(x - mean) @ weight / np.linalg.norm(x - mean) - 0.01 * np.abs(x).sum())
    np.testing.assert_allclose(scores("nci", alpha=0.01), expected, rtol=1e-5)


def test_nci_equals_pytorch_ood(detectors):
    theirs = detectors.NCI(None, torch_head()).fit_features(torch.tensor(Z).float())
    np.testing.assert_allclose(scores("nci"), theirs.predict_features(torch.tensor(X).float()), rtol=1e-4)


def test_pnml():
    z = lengthened(Z)
    inverse, expected = np.linalg.inv(sum(np.outer(row, row) for row in z)), []
    for x in X:
        x = x / (np.linalg.norm(x) or 1)
        g = x @ inverse @ x / (1 + x @ inverse @ x)
        p = softmax(W @ x + B)
        expected.append(math.log(sum(q / (q + (1 - q) * q**g) for q in p)) / math.log(CLASSES))
    np.testing.assert_allclose(scores("pnml"), expected, rtol=1e-6)


def test_pnml_equals_pytorch_ood(detectors):
    theirs = detectors.PNML(None, torch_head()).fit_features(torch.tensor(Z).float(), torch.tensor(Y))
    np.testing.assert_allclose(scores("pnml"), theirs.predict_features(torch.tensor(X).float()), rtol=1e-3)


def test_pnml_stays_finite_where_the_classifier_is_certain():
    sharp = dataclasses.replace(
        TRAIN, logits=None, classifier=(1e6 * TRAIN.classifier[0], TRAIN.classifier[1])
    )
    found = create_head("pnml").fit(sharp).score(TEST)
    assert ((found >= 0) & (found <= 1)).all()


@pytest.mark.parametrize("name", ["fdbd", "nci", "ora", "pnml"])
def test_a_column_that_does_not_fit_the_classifier_is_named(name):
    with pytest.raises(UsageError, match=r"layer1\.avg"):
        scores(name, feature="layer1.avg")


# ---- gradients


def last_layer_gradients(loss):
    found = []
    for x in X:
        head = torch_head().double()
        loss(head(torch.tensor(x))).backward()
        found.append([parameter.grad.numpy() for parameter in (head.weight, head.bias)])
    return found


def test_gradnorm_is_the_gradient_of_the_last_layer():
    gradients = last_layer_gradients(lambda logits: -(logits / 2).log_softmax(0).mean())
    expected = [-np.abs(weight).sum() for weight, _ in gradients]
    np.testing.assert_allclose(create_head("gradnorm", temperature=2.0).score(TEST), expected, rtol=1e-5)


def test_gradnorm_equals_pytorch_ood(detectors):
    theirs = detectors.GradNorm(torch_head(), param_filter=lambda name: name == "weight")
    np.testing.assert_allclose(
        create_head("gradnorm").score(TEST), theirs.predict(torch.tensor(X).float()), rtol=1e-4
    )


def test_gradient_uncertainty_is_the_gradient_of_the_last_layer():
    def loss(logits):
        return torch.nn.functional.binary_cross_entropy(
            logits.softmax(0), torch.ones_like(logits), reduction="sum"
        )

    expected = [-(weight**2).sum() - (bias**2).sum() for weight, bias in last_layer_gradients(loss)]
    np.testing.assert_allclose(create_head("gradient-uncertainty").score(TEST), expected, rtol=1e-5)


def test_gradient_uncertainty_equals_pytorch_ood(detectors):
    theirs = detectors.GradUncertainty(torch_head()).predict(torch.tensor(X).float())
    np.testing.assert_allclose(create_head("gradient-uncertainty").score(TEST), theirs, rtol=1e-4)


# ---- vectors


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1.0, 1e18, 1e30])
def test_unit_at_any_scale(scale):
    rows = torch.tensor([[3.0, 4.0], [0.0, 0.0], [-1.0, 0.0]]) * scale
    assert torch.allclose(unit(rows), torch.tensor([[0.6, 0.8], [0.0, 0.0], [-1.0, 0.0]]))


def test_heads_without_labels_say_so():
    plain = FeatureSet({"avg": Z})
    for name in ("relative-mahalanobis", "gem", "cosine", "multi-mahalanobis"):
        with pytest.raises(FeatoodError, match="labels"):
            create_head(name).fit(plain)
