import dataclasses

import numpy as np
import pytest
import torch
from manifests import manifest
from scipy.special import logsumexp, softmax

from featood.cache.feature_set import FeatureSet
from featood.errors import DataError, Mismatch, UsageError
from featood.heads import create_head
from featood.heads.reshaping.rankfeat import remove_rank_one
from featood.testing.extras import with_extras
from featood.testing.fixture import synthetic_sets

TRAIN, TEST = (with_extras(data, seed) for seed, data in enumerate(synthetic_sets(), 1))
W, B = (np.asarray(part, dtype=float) for part in TEST.classifier)


@pytest.fixture
def detectors():
    from featood.extractors.vision import torchvision  # noqa: F401  (makes torchvision importable for pytorch-ood)

    return pytest.importorskip("pytorch_ood.detector")


# ---- rankfeat


def without_first(matrix):
    u, s, v = np.linalg.svd(matrix, full_matrices=False)
    return matrix - s[0] * np.outer(u[:, 0], v[0])


def test_rankfeat():
    maps = np.asarray(TEST.features["map"], dtype=float).reshape(len(TEST), W.shape[1], -1)
    expected = [-logsumexp(W @ without_first(one).mean(1) + B) for one in maps]
    np.testing.assert_allclose(create_head("rankfeat").score(TEST), expected, rtol=1e-6)


def test_rankfeat_against_pytorch_ood(detectors):
    maps = torch.from_numpy(TEST.features["map"]).view(len(TEST), W.shape[1], 2, 2)
    weight, bias = (torch.from_numpy(part) for part in TEST.classifier)
    peer = detectors.RankFeat(torch.nn.Identity(), lambda x: x.mean((2, 3)) @ weight.T + bias)
    np.testing.assert_allclose(create_head("rankfeat").score(TEST), peer.predict(maps), rtol=1e-3)


@pytest.mark.parametrize("shape", [(3, 7), (7, 3), (5, 5), (1, 4), (4, 1)])
def test_maps_of_any_aspect_ratio(shape):
    maps = torch.randn(6, *shape)
    maps[0] = 0
    expected = [without_first(one).mean(1) for one in maps.double().numpy()]
    np.testing.assert_allclose(remove_rank_one(maps), expected, atol=1e-10)


def test_rankfeat_errors():
    head = create_head("rankfeat")
    with pytest.raises(UsageError, match="24 input channels"):
        create_head("rankfeat", feature="layer1.avg").score(TEST)
    with pytest.raises(DataError, match="classifier"):
        head.score(dataclasses.replace(TEST, classifier=None))
    with pytest.raises(UsageError, match="'map'"):
        head.score(synthetic_sets()[1])


# ---- gram


def naive_gram(train, test, layers, holdout, seed):
    """Return bounds, expected deviation and scores by loops over rows, channels and layers."""
    rows = np.flatnonzero(np.asarray(train.labels) >= 0)
    held = np.random.default_rng(seed).random(len(rows)) < holdout
    held[0] = False
    predicted = np.asarray(train.logits).argmax(1)

    def deviation(value, lower, upper):
        if value < lower:
            return (lower - value) / (abs(lower) + 1e-6)
        return (value - upper) / (abs(upper) + 1e-6) if value > upper else 0.0

    scores = np.zeros(len(test))
    for layer in layers:
        values = np.asarray(train.features[layer], dtype=float)
        bounds = {}
        for c in range(train.num_classes):
            own = [row for row, out in zip(rows, held, strict=True) if not out and predicted[row] == c]
            own = own or [row for row, out in zip(rows, held, strict=True) if not out]
            bounds[c] = values[own].min(0), values[own].max(0)

        def total(row, c, bounds=bounds):
            return sum(map(deviation, row, *bounds[c]))

        sure = softmax(np.asarray(train.logits, dtype=float), axis=1).max(1)
        outside = [
            total(values[row], predicted[row]) / sure[row] for row, out in zip(rows, held, strict=True) if out
        ]
        expected = np.mean(outside) if outside and np.mean(outside) > 0 else 1.0
        for row, c in enumerate(np.asarray(test.logits).argmax(1)):
            scores[row] += total(np.asarray(test.features[layer], dtype=float)[row], c) / expected
    return scores / softmax(np.asarray(test.logits, dtype=float), axis=1).max(1)


@pytest.mark.parametrize(
    ("options", "layers"),
    [
        ({}, ("layer1.gram", "layer2.gram")),
        ({"holdout": 0.3, "seed": 4}, ("layer1.gram", "layer2.gram")),
        ({"holdout": 0.0}, ("layer1.gram", "layer2.gram")),
        ({"features": ("layer2.gram",)}, ("layer2.gram",)),
    ],
)
def test_gram(options, layers):
    head = create_head("gram", **options).fit(TRAIN)
    expected = naive_gram(TRAIN, TEST, layers, head.holdout, head.seed)
    np.testing.assert_allclose(head.score(TEST), expected, rtol=1e-6, atol=1e-9)
    assert expected.max() > 0


def test_gram_with_a_class_that_is_never_predicted():
    predicted = np.asarray(TRAIN.logits).argmax(1)
    train = TRAIN.rows(predicted != 2)
    head = create_head("gram").fit(train)
    expected = naive_gram(train, TEST, ("layer1.gram", "layer2.gram"), 0.1, 0)
    np.testing.assert_allclose(head.score(TEST), expected, rtol=1e-6, atol=1e-9)
    assert (np.asarray(TEST.logits).argmax(1) == 2).any()


def test_gram_without_its_columns():
    with pytest.raises(UsageError, match="--pool avg,std,gram"):
        create_head("gram").fit(synthetic_sets()[0])


# ---- odin and mcm


def test_odin():
    logits = np.asarray(TEST.features["odin"], dtype=float)
    np.testing.assert_allclose(create_head("odin").score(TEST), -softmax(logits / 1000, 1).max(1), rtol=1e-12)


def test_mcm():
    z = np.asarray(TEST.features["avg"], dtype=float)
    expected = []
    for row in z:
        cosines = np.array([row @ w / (np.linalg.norm(row) * np.linalg.norm(w)) for w in W])
        expected.append(-softmax(cosines / 0.5).max())
    np.testing.assert_allclose(create_head("mcm", temperature=0.5).score(TEST), expected, rtol=1e-6)
    other = dataclasses.replace(TEST, classifier=(7 * W, B + 3))
    np.testing.assert_allclose(create_head("mcm", temperature=0.5).score(other), expected, rtol=1e-6)


def test_mcm_against_pytorch_ood(detectors):
    peer = detectors.MCM(None, torch.from_numpy(TEST.classifier[0]))
    expected = peer.predict_features(torch.from_numpy(TEST.features["avg"]))
    np.testing.assert_allclose(create_head("mcm").score(TEST), expected, rtol=1e-5)


def test_mcm_keeps_the_text_embeddings_of_its_fit():
    head = create_head("mcm").fit(TRAIN)
    bare = FeatureSet({"avg": TEST.features["avg"]})
    np.testing.assert_allclose(head.score(bare), create_head("mcm").score(TEST), rtol=1e-12)
    with pytest.raises(DataError, match="classifier"):
        create_head("mcm").score(bare)


def test_mcm_from_imported_embeddings(featood, tmp_path):
    rng = np.random.default_rng(0)
    text = rng.normal(0, 1, (5, 16))
    np.savez(tmp_path / "text.npz", weight=text, bias=np.zeros(5))
    for name, split, rows in (("pets", "test", text[rng.integers(0, 5, 40)] + 0.3), ("cars", "test", None)):
        rows = rng.normal(0, 1, (40, 16)) if rows is None else rows
        np.save(tmp_path / "rows.npy", rows)
        words = [
            "--features",
            tmp_path / "rows.npy",
            "--classifier",
            tmp_path / "text.npz",
            "--backbone",
            "clip",
        ]
        code, _, err = featood("import", *words, "--dataset", name, "--split", split)
        assert code == 0, err
    code, out, err = featood("score", "--dataset", "pets", "--head", "mcm", "--ood", "cars", "--csv", "-")
    assert code == 0, err
    header, row = (line.split(",") for line in out.splitlines()[:2])
    assert float(row[header.index("auroc")]) > 0.95


def test_gram_counts_a_repeated_column_once():
    def repeated(data):
        return dataclasses.replace(data, features={**data.features, "gram": data.features["layer2.gram"]})

    with pytest.warns(UserWarning, match="the same as"):
        head = create_head("gram").fit(repeated(TRAIN))
    np.testing.assert_allclose(head.score(repeated(TEST)), create_head("gram").fit(TRAIN).score(TEST))
    twice = create_head("gram", features=("layer1.gram", "layer2.gram", "gram")).fit(repeated(TRAIN))
    assert not np.allclose(twice.score(repeated(TEST)), head.score(repeated(TEST)))


def test_gram_refuses_the_powers_of_an_earlier_version():
    earlier = manifest({"columns": {"layer1.gram": ["layer1", "output", "gram"]}})
    with pytest.warns(UserWarning, match=r"layer1\.gram have powers 1 to 5"):
        create_head("gram").fit(dataclasses.replace(TRAIN, origin=earlier))


@pytest.mark.parametrize("name", ["gram", "vra"])
def test_heads_whose_scores_have_changed_must_be_fitted_again(name):
    state = {"layer1.gram/lower": torch.zeros(3, 2), "limits": torch.zeros(2)}
    with pytest.raises(Mismatch, match="fit it again"):
        create_head(name).prepare(state)
