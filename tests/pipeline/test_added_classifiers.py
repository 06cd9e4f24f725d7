"""Classifiers added to features: the fit against a minimiser of the stated loss, and the sets that they make."""

import numpy as np
import pytest
import safetensors.numpy
from reporters import Kept
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from featood.cache import FeatureCache, import_arrays
from featood.cache.feature_set import Classifier, FeatureSet
from featood.errors import DataError, Mismatch
from featood.heads import create_head
from featood.pipeline.added_classifiers import add_classifier, fit_classifier
from featood.pipeline.resolve import find_set

WIDTH = 6


def rows_of(classes, count, seed=0, shift=0.0):
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    centers = np.random.default_rng(9).normal(size=(classes, WIDTH))
    scales = np.linspace(0.1, 5, WIDTH)
    return ((centers[labels] + rng.normal(size=(count, WIDTH)) + shift) * scales).astype("f4"), labels


@pytest.fixture
def cache(tmp_path):
    cache = FeatureCache(tmp_path / "cache")
    for split, count, seed in (("train", 90, 0), ("test", 60, 1)):
        rows, labels = rows_of(3, count, seed)
        import_arrays(
            cache, f"dino/photos/{split}", {"token": rows, "avg": rows[:, :4]}, labels=labels, classes="abc"
        )
    odd = rows_of(3, 40, 2, 4.0)[0]
    import_arrays(cache, "dino/odd/test", {"token": odd, "avg": odd[:, :4]}, run={"role": "ood"})
    return cache


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("l2", [0.3, 20.0])
def test_the_fit_minimises_the_stated_loss(classes, l2):
    rows, labels = rows_of(classes, 120)
    unknown = np.full(10, -1)  # which count for nothing
    train = FeatureSet(
        {"z": np.concatenate([rows, rows[:10] + 50])}, labels=np.concatenate([labels, unknown]), main="z"
    )
    weight, bias = fit_classifier(train, l2=l2)
    z = rows.astype(float)
    z = (z - z.mean(0)) / z.std(0)

    def loss(flat):
        w, b = flat[: classes * WIDTH].reshape(classes, WIDTH), flat[classes * WIDTH :]
        return -log_softmax(z @ w.T + b, 1)[np.arange(len(z)), labels].sum() + l2 / 2 * np.square(w).sum()

    best = minimize(loss, np.zeros(classes * (WIDTH + 1)), tol=1e-9).x
    w, b = best[: classes * WIDTH].reshape(classes, WIDTH), best[classes * WIDTH :]
    found = softmax(rows.astype(float) @ weight.T + bias, 1)
    np.testing.assert_allclose(found, softmax(z @ w.T + b, 1), atol=1e-3)


def test_sets_with_logits_are_added_for_every_split(cache):
    seen = Kept()
    sets = add_classifier(cache, "probe", "dino", feature="token", reporter=seen)
    assert [features.name for features in sets] == ["probe/photos/test", "probe/photos/train"][::-1]
    for features in sets:
        source = cache[features.name.replace("probe", "dino")]
        weight, bias = features.classifier
        assert features.main == "token" and list(features.features) == ["token"]
        np.testing.assert_array_equal(features.features["token"][:], source.features["token"][:])
        np.testing.assert_allclose(
            features.logits[:], source.features["token"][:] @ weight.T + bias, rtol=1e-5, atol=1e-5
        )
        np.testing.assert_array_equal(features.labels[:], source.labels[:])
        np.testing.assert_array_equal(features.ids[:], source.ids[:])
        assert (features.logits[:].argmax(1) == features.labels[:]).mean() > 0.6
    odd = find_set(cache, sets[0], "odd")  # computed from the features that are there
    assert odd.name == "probe/odd/test" and odd.origin.role == "ood"
    np.testing.assert_allclose(
        odd.logits[:], cache["dino/odd/test"].features["token"][:] @ weight.T + bias, rtol=1e-4
    )
    assert create_head("vim").fit(sets[0]).score(odd).shape == (40,)


def test_another_classifier_replaces_the_sets_only_if_asked(cache):
    first = add_classifier(cache, "probe", "dino")
    old = find_set(cache, first[0], "odd").logits[:]
    with pytest.raises(Mismatch, match="add --overwrite"):
        add_classifier(cache, "probe", "dino", l2=100.0)
    second = add_classifier(cache, "probe", "dino", l2=100.0, overwrite=True)
    assert second[0].fingerprint != first[0].fingerprint
    new = find_set(cache, second[0], "odd")
    assert new.fingerprint == second[0].fingerprint and not np.allclose(new.logits[:], old)


def test_embeddings_of_class_names(cache):
    words = np.random.default_rng(3).normal(size=(3, WIDTH)).astype("f4")
    given = Classifier(100 * words / np.linalg.norm(words, axis=1, keepdims=True), np.zeros(3, "f4"))
    _, test = sorted(
        add_classifier(cache, "words", "dino", classifier=given, unit=True),
        key=lambda features: -len(features),
    )
    rows = cache["dino/photos/test"].features["token"][:].astype(float)
    cosines = rows @ words.T / np.linalg.norm(rows, axis=1)[:, None] / np.linalg.norm(words, axis=1)
    np.testing.assert_allclose(test.logits[:], 100 * cosines, atol=1e-3)
    expected = -softmax(cosines / 0.1, 1).max(1)
    np.testing.assert_allclose(create_head("mcm", temperature=0.1).score(test), expected, atol=1e-5)


def test_what_cannot_be_classified(cache):
    with pytest.raises(DataError, match=r"does not fit the column token.*\[C, 6\]"):
        add_classifier(cache, "probe", "dino", classifier=Classifier(np.ones((3, 5)), np.zeros(3)))
    rows, labels = rows_of(3, 30)
    with pytest.raises(DataError, match="no rows of class 1"):
        fit_classifier(FeatureSet({"z": rows}, labels=np.where(labels == 1, 0, labels), main="z"))
    with pytest.raises(DataError, match="no labels"):
        fit_classifier(FeatureSet({"z": rows}, main="z"))
    for head in ("msp", "vim"):
        with pytest.raises(DataError, match="featood cache add-classifier adds logits") as error:
            create_head(head).fit(cache["dino/photos/train"])
        assert "\n" not in str(error.value)


def test_on_the_command_line(cache, featood, tmp_path):
    code, out, err = featood("cache", "add-classifier", "probe", "dino", "--feature", "avg")
    assert code == 0, err
    assert "probe/photos/test: 60 rows; avg 4; logits 3; accuracy 0." in out
    safetensors.numpy.save_file({"weight": np.eye(4, WIDTH, dtype="f4")}, tmp_path / "words.safetensors")
    code, out, err = featood(
        "cache", "add-classifier", "words", "dino", "--classifier", tmp_path / "words.safetensors", "--unit"
    )
    assert code == 0 and "the classifier has 4 classes, and dino/photos/train 3" in err
    assert featood("fit", "msp", "--backbone", "probe")[0] == 0
    code, out, err = featood("score", "--ood", "odd", "--backbone", "probe")
    assert code == 0 and "msp" in out, err
    code, out, err = featood("recommend", "--backbone", "dino", "--budget", "0.1", "--heads", "cosine")
    assert code == 0, err
