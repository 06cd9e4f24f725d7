"""Constants on all logits, which no softmax tells: scores that they would turn around are of centred logits."""

import dataclasses
import warnings

import numpy as np
import pytest
import torch
from scipy.special import logsumexp

from featood import open_cache
from featood.cache.feature_set import FeatureSet
from featood.data import open_dataset
from featood.extractors.backbones import resolve_backbone
from featood.extractors.extract import ExtractOptions, extract
from featood.extractors.recipe import choose_transform
from featood.heads import create_head, load_head
from featood.heads.base.last_layer import centred, centred_logits
from featood.metrics import auroc
from featood.testing.fixture import synthetic_sets

TRAIN, TEST = synthetic_sets()
KNOWN = np.asarray(TEST.labels) >= 0
HEADS = ["vim", "neco", "nnguide", "openmax"]


def raised(data: FeatureSet, constant: float) -> FeatureSet:
    weight, bias = (np.asarray(part, np.float64) for part in data.classifier)
    return dataclasses.replace(
        data, logits=np.asarray(data.logits, np.float64) + constant, classifier=(weight, bias + constant)
    )


def scores(name, constant, **options):
    return create_head(name, **options).fit(raised(TRAIN, constant)).score(raised(TEST, constant))


@pytest.mark.parametrize("name", HEADS)
def test_where_the_level_is_negative_it_does_not_matter(name):
    expected = None
    for constant in (-5.0, -12.9, -1000.0):
        with pytest.warns(UserWarning, match="the logits were centred"):
            found = scores(name, constant)
        expected = found if expected is None else expected
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)  # biases are float32
    assert auroc(expected[KNOWN], expected[~KNOWN]) > 0.6


@pytest.mark.parametrize("name", HEADS)
def test_where_it_is_positive_the_score_is_as_published(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plain, high = scores(name, 0.0), scores(name, 5.0)
    assert not np.allclose(plain, high)


@pytest.mark.parametrize("dim", [3, 20])
def test_vim_of_centred_logits(dim):
    w, b = (np.asarray(part, float) for part in TRAIN.classifier)
    w, b = w - w.mean(0), b - b.mean()
    z = np.asarray(TRAIN.features["avg"], float)[np.asarray(TRAIN.labels) >= 0]
    x = np.asarray(TEST.features["avg"], float)
    u = -np.linalg.pinv(w, rcond=1e-6) @ b
    axes = np.linalg.svd(z - u)[2][dim:]
    alpha = (z @ w.T + b).max(1).mean() / np.linalg.norm((z - u) @ axes.T, axis=1).mean()
    expected = alpha * np.linalg.norm((x - u) @ axes.T, axis=1) - logsumexp(x @ w.T + b, axis=1)
    with pytest.warns(UserWarning, match="mean largest logit is -"):
        np.testing.assert_allclose(scores("vim", -30.0, dim=dim), expected, rtol=1e-5, atol=1e-5)


def test_it_is_noted_and_saved(tmp_path):
    for name in HEADS:
        with pytest.warns(UserWarning, match="centred"):
            head = create_head(name).fit(raised(TRAIN, -20.0))
        assert any("centred" in note for note in head.record.notes)
        head.save(tmp_path / name)
        other = raised(TEST, -20.0)
        assert np.array_equal(load_head(tmp_path / name).score(other), head.score(other))


def test_neco_without_logits_has_no_level():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_allclose(
            scores("neco", -20.0, max_logit=False), scores("neco", 0.0, max_logit=False), rtol=1e-9
        )


def test_centring_keeps_the_softmax():
    rng = np.random.default_rng(0)
    layer = {"weight": torch.tensor(rng.normal(size=(4, 6))), "bias": torch.tensor(rng.normal(size=4) - 12.9)}
    rows = torch.tensor(rng.normal(size=(10, 6)))
    logits = rows @ layer["weight"].T + layer["bias"]
    other = rows @ centred(layer)["weight"].T + centred(layer)["bias"]
    torch.testing.assert_close(other, centred_logits(logits))
    torch.testing.assert_close(other.softmax(1), logits.softmax(1))
    torch.testing.assert_close(other.sum(1), torch.zeros(10, dtype=torch.float64))


def real_sets(root, folder):
    backbone = resolve_backbone(
        "mnist-convnet", str(root / "weights/mnist-outlier-exposure/baseline_epoch_9.pt")
    )
    sets = {}
    for name, split, count in (
        ("mnist", "train", 1500),
        ("mnist", "test", 500),
        ("fashion-mnist", "test", 500),
    ):
        images = open_dataset(name, split, root).subset(np.arange(count))
        transform, _ = choose_transform(backbone, images, (0.0,), (1.0,))
        options = ExtractOptions(workers=0)
        sets[f"{name}/{split}"] = extract(backbone, images, transform, open_cache(folder), options).features
    return sets


def test_on_a_real_network(test_data, tmp_path):
    train, test, odd = real_sets(test_data, tmp_path).values()
    for name in HEADS:
        found = {}
        for constant in (0.0, -30.0, -60.0, -1000.0):  # the mean largest logit is 15.7
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                head = create_head(name).fit(raised(train, constant))
            found[constant] = auroc(*(head.score(raised(rows, constant)) for rows in (test, odd)))
        assert found[-30.0] == pytest.approx(found[-60.0], abs=1e-3), (name, found)
        assert found[-30.0] == pytest.approx(found[-1000.0], abs=1e-3), (name, found)
        assert found[-30.0] == pytest.approx(found[0.0], abs=0.02), (name, found)
