"""Heads on columns that an extraction computes besides features and logits, against loops."""

import numpy as np
import pytest
import torch
from scipy.special import logsumexp, softmax

from featood.errors import DataError, UsageError
from featood.heads import create_head
from featood.heads.reshaping._adascale import activation_ratios
from featood.heads.reshaping._reshaping_head import activation_ratio
from featood.testing.extras import with_extras
from featood.testing.fixture import synthetic_sets

TRAIN, TEST = (with_extras(data, seed) for seed, data in enumerate(synthetic_sets(), 1))
W, B = (np.asarray(part, dtype=float) for part in TEST.classifier)


def pairs(data):
    known = np.asarray(data.labels) >= 0 if data is TRAIN else slice(None)
    columns = (np.asarray(data.features[name], dtype=float)[known] for name in ("avg", "adascale"))
    return list(zip(*columns, strict=True))


def shift(plain, moved, kept, shifted, weight):
    order = np.argsort(-plain, kind="stable")
    first = order[: max(int(kept * len(plain)), 1)]
    second = order[: max(int(shifted * len(plain)), 1)]
    return sum(max(moved[i], 0) for i in first) + weight * sum(abs(plain[i] - moved[i]) for i in second)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"kept": 0.4, "shifted": 0.2, "weight": 3.0, "lowest": 20.0, "highest": 90.0},
        {"lowest": 50.0, "highest": 50.0},
    ],
)
@pytest.mark.parametrize("name", ["adascale-a", "adascale-l"])
def test_adascale(name, options):
    how = {"kept": 0.05, "shifted": 0.01, "weight": 10.0, "lowest": 60.0, "highest": 65.0, **options}
    measure = {key: how[key] for key in ("kept", "shifted", "weight")}
    known = [shift(*pair, **measure) for pair in pairs(TRAIN)]
    expected, ratios = [], []
    for plain, moved in pairs(TEST):
        share = np.mean([value <= shift(plain, moved, **measure) for value in known])
        percentile = how["lowest"] + (1 - share) * (how["highest"] - how["lowest"])
        count = max(len(plain) - round(len(plain) * percentile / 100), 1)
        active = np.sort(np.maximum(plain, 0))[::-1]
        ratios.append(active.sum() / active[:count].sum())
        if name == "adascale-a":
            expected.append(-logsumexp(W @ (plain * np.exp(ratios[-1])) + B))
        else:
            expected.append(-logsumexp((W @ plain + B) * ratios[-1] ** 2))
    np.testing.assert_allclose(create_head(name, **options).fit(TRAIN).score(TEST), expected, rtol=1e-5)
    assert np.std(ratios) > 0


def test_adascale_with_one_percentile_is_scale():
    scale = create_head("scale", percentile=0.5).score(TEST)
    both = create_head("adascale-a", lowest=50.0, highest=50.0).fit(TRAIN).score(TEST)
    np.testing.assert_allclose(both, scale, rtol=1e-5)


def test_adascale_keeps_a_sample():
    head = create_head("adascale-a", sample=50).fit(TRAIN)
    assert 0 < len(head.state["shifts"]) <= 50
    assert (head.state["shifts"].diff() >= 0).all()
    assert create_head("adascale-l", preset="imagenet").lowest == 80
    with pytest.raises(UsageError, match="above --highest"):
        create_head("adascale-a", lowest=80.0, highest=70.0)


def test_activation_ratios_with_one_count_for_all_rows():
    rows = torch.randn(20, 9, generator=torch.Generator().manual_seed(0))
    rows[0] = -rows[0].abs()
    for count in (1, 4, 9):
        found = activation_ratios(rows, torch.full((20,), count))
        np.testing.assert_allclose(found, activation_ratio(rows, count), rtol=1e-6)


def test_mahalanobis_odin_scores_the_moved_features_with_the_means_of_the_others():
    known = np.asarray(TRAIN.labels) >= 0
    labels = np.asarray(TRAIN.labels)[known]
    rows = np.asarray(TRAIN.features["avg"], dtype=float)[known]
    means = [rows[labels == c].mean(0) for c in np.unique(labels)]
    within = sum(
        np.outer(row - means[c], row - means[c])
        for row, c in zip(rows, np.unique(labels, return_inverse=True)[1], strict=True)
    )
    precision = np.linalg.inv(within / len(rows))
    expected = [
        min((z - mean) @ precision @ (z - mean) for mean in means)
        for z in np.asarray(TEST.features["mahalanobis-odin"], dtype=float)
    ]
    head = create_head("mahalanobis-odin").fit(TRAIN)
    np.testing.assert_allclose(head.score(TEST), expected, rtol=1e-6)
    plain = create_head("mahalanobis").fit(TRAIN)
    for name in ("center", "matrix", "means"):
        assert torch.equal(head.state[name], plain.state[name])


def test_i_odin():
    logits = np.asarray(TEST.features["i-odin"], dtype=float)
    np.testing.assert_allclose(
        create_head("i-odin").score(TEST), -softmax(logits / 1000, 1).max(1), rtol=1e-12
    )


@pytest.mark.parametrize("name", ["gaia-z", "gaia-a"])
def test_gaia_scores_its_column(name):
    np.testing.assert_array_equal(create_head(name).score(TEST), TEST.features[name][:, 0])
    with pytest.raises(DataError, match="24 numbers for each row"):
        create_head(name, feature="avg").score(TEST)


@pytest.mark.parametrize("name", ["adascale-a", "mahalanobis-odin", "i-odin", "gaia-z"])
def test_a_missing_column_is_named(name):
    with pytest.raises(UsageError, match="no feature column"):
        create_head(name).fit(synthetic_sets()[0]).score(synthetic_sets()[1])


def test_feature_norm():
    norms = np.asarray(TEST.features["norm"], dtype=float)
    expected = [-sum(row) / len(row) for row in norms]
    np.testing.assert_allclose(create_head("feature-norm").score(TEST), expected, rtol=1e-12)
