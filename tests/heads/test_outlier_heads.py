import warnings

import numpy as np
import pytest
import torch
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import LocalOutlierFactor
from sklearn.svm import OneClassSVM

from featood.errors import DataError
from featood.heads import create_head, load_head
from featood.heads.outliers.isolation_forest import _unsuccessful_search
from featood.testing import synthetic_sets

TRAIN, TEST = synthetic_sets()
BANK = TRAIN.features["avg"][TRAIN.labels >= 0]
ROWS = TEST.features["avg"]


def scores(name, **options):
    return create_head(name, **options).fit(TRAIN).score(TEST)


@pytest.mark.parametrize("neighbors", [3, 20])
def test_lof_agrees_with_the_definition(neighbors):
    bank, rows = BANK.astype(float), ROWS[:20].astype(float)

    def neighbours(row, others):
        distances = np.array([np.linalg.norm(row - other) for other in others])
        order = np.argsort(distances)[:neighbors]
        return order, distances[order]

    among = [
        neighbours(row, np.where(np.arange(len(bank))[:, None] == i, np.inf, bank))
        for i, row in enumerate(bank)
    ]
    reach = np.array([distances[-1] for _, distances in among])

    def density(order, distances):
        return 1 / np.mean([max(reach[j], d) for j, d in zip(order, distances, strict=True)])

    densities = np.array([density(*near) for near in among])
    expected = []
    for row in rows:
        order, distances = neighbours(row, bank)
        expected.append(densities[order].mean() / density(order, distances))
    found = create_head("lof", neighbors=neighbors).fit(BANK).score(ROWS[:20])
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_lof_agrees_with_scikit_learn():
    machine = LocalOutlierFactor(novelty=True).fit(BANK.astype(float))
    np.testing.assert_allclose(scores("lof"), -machine.score_samples(ROWS.astype(float)), rtol=1e-9)


def test_lof_of_duplicates_is_finite():
    head = create_head("lof", neighbors=3).fit(np.repeat(BANK[:20], 10, axis=0))
    assert np.isfinite(head.score(ROWS)).all()


def test_lof_of_duplicates_agrees_with_scikit_learn():
    bank = np.repeat(BANK[:40], 4, axis=0).astype(float)  # more equal rows than neighbours
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        machine = LocalOutlierFactor(n_neighbors=3, novelty=True).fit(bank)
    found = create_head("lof", neighbors=3).fit(bank).score(ROWS.astype(float))
    np.testing.assert_allclose(found, -machine.score_samples(ROWS.astype(float)), rtol=1e-6)


def test_lof_of_two_rows():
    with pytest.warns(UserWarning, match="only 2 rows"):
        head = create_head("lof").fit(BANK[:2])
    assert np.isfinite(head.score(ROWS)).all()
    with pytest.raises(DataError, match="two training rows"):
        create_head("lof").fit(BANK[:1])


@pytest.mark.parametrize("options", [{}, {"trees": 7, "sample": 40, "seed": 3}, {"sample": 100_000}])
def test_isolation_forest_agrees_with_scikit_learn(options):
    names = {"trees": "n_estimators", "sample": "max_samples", "seed": "random_state"}
    theirs = {"max_samples": 256, "random_state": 0, **{names[key]: value for key, value in options.items()}}
    theirs["max_samples"] = min(theirs["max_samples"], len(BANK))
    machine = IsolationForest(**theirs).fit(BANK)
    np.testing.assert_allclose(scores("isolation-forest", **options), -machine.score_samples(ROWS), rtol=1e-9)


def test_isolation_forest_scores_by_hand():
    head = create_head("isolation-forest", trees=1, sample=4).fit(np.array([[0.0], [1.0], [2.0], [100.0]]))
    state = head.state
    found = []
    for row in (-5.0, 200.0):
        node, depth = 0, 0
        while int(state["left"][0, node]) != node:
            side = "left" if row <= float(state["threshold"][0, node]) else "right"
            node, depth = int(state[side][0, node]), depth + 1
        # four distinct rows part entirely within ceil(log2(4)) = 2 cuts, or leave pairs, worth one more
        assert float(state["path"][0, node]) in (depth, depth + 1)
        found.append(2 ** (-float(state["path"][0, node]) / float(state["typical"])))
    np.testing.assert_allclose(head.score(np.array([[-5.0], [200.0]])), found, rtol=1e-12)


@pytest.mark.parametrize("count", [1, 2, 3, 10, 256])
def test_mean_depth_of_a_missing_key(count):
    harmonic = np.log(count - 1) + np.euler_gamma if count > 2 else 0
    expected = {1: 0.0, 2: 1.0}.get(count, 2 * harmonic - 2 * (count - 1) / count)
    assert _unsuccessful_search(np.array([count]))[0] == pytest.approx(expected)


def test_isolation_forest_of_one_row_knows_nothing():
    assert len(set(create_head("isolation-forest").fit(BANK[:1]).score(ROWS))) == 1


@pytest.mark.parametrize("nu", [0.1, 0.5])
@pytest.mark.parametrize("gamma", [0.0, 0.3])
def test_one_class_svm_agrees_with_scikit_learn(nu, gamma):
    machine = OneClassSVM(nu=nu, gamma=gamma or "scale", tol=1e-6).fit(
        BANK.astype(float) - BANK.astype(float).mean(0)
    )
    expected = -machine.decision_function(ROWS.astype(float) - BANK.astype(float).mean(0))
    np.testing.assert_allclose(scores("one-class-svm", nu=nu, gamma=gamma), expected, rtol=1e-6, atol=1e-6)


def test_one_class_svm_leaves_a_share_outside():
    inside = create_head("one-class-svm", nu=0.2).fit(BANK).score(BANK)
    # nu bounds the share outside from above, and that outside or on the boundary from below
    assert 0.05 < (inside > 1e-5).mean() <= 0.2 <= (inside > -1e-5).mean() < 0.35


def test_one_class_svm_far_away_scores_its_offset():
    head = create_head("one-class-svm").fit(BANK)
    np.testing.assert_allclose(head.score(1e6 * ROWS + 1e6), float(head.state["offset"]))


def test_one_class_svm_does_not_lose_digits_to_an_offset():
    rows = BANK + np.float32(1000)
    found = create_head("one-class-svm").fit(rows).score(rows)
    np.testing.assert_allclose(
        found, create_head("one-class-svm").fit(BANK).score(BANK), rtol=1e-2, atol=1e-2
    )


@pytest.mark.parametrize("name", ["lof", "isolation-forest", "one-class-svm"])
def test_subsample(name, tmp_path):
    head = create_head(name, rows=60, seed=1).fit(TRAIN)
    again = create_head(name, rows=60, seed=1).fit(TRAIN)
    other = create_head(name, rows=60, seed=2).fit(TRAIN)
    assert np.array_equal(head.score(TEST), again.score(TEST))
    assert not np.array_equal(head.score(TEST), other.score(TEST))
    head.save(tmp_path / "head")
    assert np.array_equal(load_head(tmp_path / "head").score(TEST), head.score(TEST))


def test_lof_keeps_no_more_rows_than_asked():
    assert create_head("lof", rows=60).fit(BANK).state["rows"].shape == (60, BANK.shape[1])
    kept = create_head("lof", rows=60).fit(BANK).state["rows"]
    assert torch.unique(torch.cat([kept, torch.tensor(BANK)]), dim=0).shape[0] == len(np.unique(BANK, axis=0))


def test_lof_keeps_narrow_features_as_they_are():
    narrow = BANK.astype("f2")
    heads = [create_head("lof").fit(rows) for rows in (narrow, narrow.astype("f4"))]
    assert heads[0].state["rows"].dtype == torch.float16
    np.testing.assert_array_equal(*(head.score(ROWS) for head in heads))
