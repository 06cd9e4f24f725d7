"""Selective classification and sets of classes, against loops and simulation."""

import numpy as np
import pytest
from scipy import stats

from featood.decisions import class_scores, guaranteed_threshold, risk_coverage, threshold
from featood.errors import DataError, UsageError


def test_the_curve_counts_errors_among_the_accepted_rows():
    rng = np.random.default_rng(0)
    scores, errors = rng.integers(0, 20, 200) / 4, rng.random(200) < 0.3
    curve = risk_coverage(scores, errors)
    assert curve.thresholds.tolist() == sorted(set(scores.tolist()))
    for at, coverage, risk in zip(*curve, strict=True):
        accepted = scores <= at
        assert coverage == pytest.approx(accepted.mean()) and risk == pytest.approx(errors[accepted].mean())


def test_the_risk_of_new_rows_is_below_the_bound():
    rng = np.random.default_rng(0)

    def draw(rows):
        scores = rng.random(rows)
        return scores, rng.random(rows) < scores**2  # the risk below t is t^2 / 3

    broken = 0
    for _ in range(200):
        at, bound = guaranteed_threshold(*draw(2000), risk=0.1, confidence=0.9)
        assert bound <= 0.1
        broken += at**2 / 3 > 0.1
    assert broken <= 20
    at, bound = guaranteed_threshold(*draw(50_000), risk=0.1)
    assert at == pytest.approx(0.3**0.5, abs=0.03), "many rows use most of the risk"
    with pytest.raises(DataError, match="no threshold keeps the error rate at or below 1 %"):
        guaranteed_threshold(np.arange(50), np.ones(50), 0.01)


def test_the_bound_is_that_of_clopper_and_pearson():
    # one threshold, visited in the only step of two rows' search
    at, bound = guaranteed_threshold([0.0, 0.0], [False, False], risk=0.9, confidence=0.95)
    assert at == 0 and bound == pytest.approx(stats.binomtest(0, 2).proportion_ci(0.9).high)


@pytest.mark.parametrize("how", ["lac", "aps"])
def test_sets_contain_the_true_class_as_often_as_asked(how):
    rng = np.random.default_rng(0)

    def draw(rows):
        p = rng.dirichlet([0.5] * 5, rows)
        return p, np.array([rng.choice(5, p=row) for row in p])

    covered, sizes = [], []
    for _ in range(60):
        p, labels = draw(200)
        limit = threshold(class_scores(p, how, rng)[np.arange(200), labels], 0.1)
        new, true = draw(200)
        sets = class_scores(new, how, rng) <= limit
        covered.append(sets[np.arange(200), true].mean())
        sizes.append(sets.sum(1).mean())
    assert np.mean(covered) == pytest.approx(0.9, abs=0.01)
    assert 1 < np.mean(sizes) < 4


def test_adaptive_scores_are_the_mass_of_the_classes_before():
    p = np.array([[0.2, 0.5, 0.3], [0.1, 0.1, 0.8]])
    np.testing.assert_allclose(class_scores(p, "aps"), [[1.0, 0.5, 0.8], [0.9, 1.0, 0.8]])
    share = np.random.default_rng(3).random((2, 1))
    found = class_scores(p, "aps", np.random.default_rng(3))
    np.testing.assert_allclose(found, class_scores(p, "aps") - (1 - share) * p)
    np.testing.assert_allclose(class_scores(p), 1 - p)
    with pytest.raises(UsageError, match="lac or aps"):
        class_scores(p, "raps")
