"""P-values and decisions on batches, against counting, simulation and scipy."""

import numpy as np
import pytest
from scipy import stats

from featood.decisions import (
    class_p_values,
    combined_p_values,
    conditional_p_values,
    discoveries,
    false_discovery_bound,
    p_values,
    threshold,
    weighted_p_values,
)
from featood.errors import DataError, UsageError


def counted(calibration, score, known=None, own=1.0, share=1.0):
    known = np.ones(len(calibration)) if known is None else known
    above = sum(w for w, c in zip(known, calibration, strict=True) if c > score)
    equal = sum(w for w, c in zip(known, calibration, strict=True) if c == score)
    return (above + share * (equal + own)) / (sum(known) + own)


def test_p_values_count_the_scores_that_are_at_least_as_high():
    rng = np.random.default_rng(0)
    calibration, scores = rng.integers(0, 9, 40) / 2, rng.integers(-1, 11, 60) / 2
    expected = [counted(calibration, score) for score in scores]
    np.testing.assert_allclose(p_values(calibration, scores), expected, rtol=1e-12)
    shares = np.random.default_rng(5).random(60)
    expected = [counted(calibration, score, share=u) for score, u in zip(scores, shares, strict=True)]
    np.testing.assert_allclose(p_values(calibration, scores, np.random.default_rng(5)), expected, rtol=1e-12)
    known, own = rng.random(40), rng.random(60)
    expected = [counted(calibration, s, known, w) for s, w in zip(scores, own, strict=True)]
    np.testing.assert_allclose(weighted_p_values(calibration, scores, known, own), expected, rtol=1e-12)
    assert p_values(calibration, []).shape == (0,)


def test_p_values_of_a_class_are_those_among_its_rows():
    rng = np.random.default_rng(0)
    calibration, scores = rng.integers(0, 9, 60) / 2, rng.integers(-1, 11, 70) / 2
    known, own = rng.integers(0, 3, 60), rng.integers(0, 4, 70)  # one class has no calibration rows
    found = class_p_values(calibration, known, scores, own)
    expected = [counted(calibration[known == k], s) for s, k in zip(scores, own, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert (found[own == 3] == 1).all() and class_p_values(calibration, known, [], own[:0]).shape == (0,)


def test_the_threshold_flags_what_has_a_small_p_value():
    rng = np.random.default_rng(0)
    calibration, scores = rng.normal(size=99), rng.normal(size=2000) + 1
    np.testing.assert_array_equal(
        scores > threshold(calibration, 0.05), p_values(calibration, scores) <= 0.05
    )


def test_p_values_of_inliers_are_uniform():
    rng = np.random.default_rng(0)
    found = [p_values(rng.normal(size=50), rng.normal(size=1), rng)[0] for _ in range(1000)]
    assert stats.kstest(found, "uniform").pvalue > 0.01
    ties = [p_values(rng.integers(0, 3, 50), rng.integers(0, 3, 1), rng)[0] for _ in range(1000)]
    assert stats.kstest(ties, "uniform").pvalue > 0.01


def test_weights_undo_a_shift_of_the_inputs():
    rng = np.random.default_rng(0)
    plain, weighted = [], []
    for _ in range(800):
        x, z = rng.normal(size=100), rng.normal(1, 1, 1)  # the score is the input
        ratio = np.exp(np.concatenate([x, z]) - 0.5)  # of the two normal densities
        plain.append(p_values(x, z, rng)[0])
        weighted.append(weighted_p_values(x, z, ratio[:100], ratio[100:], rng)[0])
    assert stats.kstest(weighted, "uniform").pvalue > 0.01
    assert stats.kstest(plain, "uniform").pvalue < 1e-9


def test_conditional_p_values_hold_for_most_calibration_sets():
    rng = np.random.default_rng(0)
    kept = 0
    for _ in range(400):
        calibration = np.sort(rng.random(200))  # the score is its own quantile
        # an exact p-value u of a new row is that of the score 1 - u
        exact = np.linspace(0.0005, 0.9995, 1000)
        p = conditional_p_values(p_values(calibration, 1 - exact), 200, 0.8)
        # P(p <= a) <= a for all a: the largest exact p-value with p <= a is at most a
        kept += bool((np.maximum.accumulate(exact) <= p + 0.002).all())
    assert 0.76 <= kept / 400 < 0.97


def test_conditional_p_values_are_those_of_the_formula():
    n, delta = 7, 0.1
    p = np.arange(1, n + 2) / (n + 1)
    k = n // 2

    def bound(i):
        if i < k:
            return 0.0
        ratio = np.prod([(i - j) / (n - j) for j in range(k)])
        return (delta * ratio) ** (1 / k)

    # with j scores at least as high (p = (j + 1) / (n + 1)), i = n - j
    expected = [1 - bound(max(1, n - j)) for j in range(n + 1)]
    np.testing.assert_allclose(conditional_p_values(p, n, 1 - delta), expected, rtol=1e-12)
    assert (np.diff(expected) >= 0).all()


def test_discoveries_are_those_of_the_step_up_procedure():
    rng = np.random.default_rng(0)
    p = np.concatenate([rng.random(40), rng.random(15) ** 6])
    order = np.argsort(p)
    passed = [i for i in range(55) if p[order[i]] <= (i + 1) / 55 * 0.1]
    expected = np.zeros(55, bool)
    expected[order[: max(passed) + 1]] = True
    np.testing.assert_array_equal(discoveries(p, 0.1), expected)
    assert not discoveries([0.5, 0.9]).any() and discoveries([]).shape == (0,)


def test_few_discoveries_are_false():
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(500):
        scores = np.concatenate([rng.normal(size=45), rng.normal(4, 1, 15)])
        flagged = discoveries(p_values(rng.normal(size=600), scores), 0.2)
        shares.append(flagged[:45].sum() / max(flagged.sum(), 1))
    # 45 of 60 rows are inliers, so the rate is at most 0.15
    assert 0.1 < np.mean(shares) < 0.165


def test_the_bound_of_false_discoveries_holds_for_all_thresholds_at_once():
    rng = np.random.default_rng(0)
    broken, bounds = 0, []
    for _ in range(400):
        p = p_values(rng.normal(size=200), np.concatenate([rng.normal(size=80), rng.normal(4, 1, 20)]))
        cuts = np.unique(p)
        found = [(false_discovery_bound(p, p <= at, 200, 0.8), (p[:80] <= at).sum()) for at in cuts[::4]]
        broken += any(bound < false for bound, false in found)
        flagged = discoveries(p, 0.2)
        bounds.append(false_discovery_bound(p, flagged, 200, 0.8) / flagged.sum())
    assert broken <= 80
    assert np.mean(bounds) < 0.75, "it is of use"


def test_the_bound_of_one_threshold_is_a_quantile_of_the_beta_binomial_law(monkeypatch):
    monkeypatch.setattr("featood.decisions.batches.GRID", 1)  # the highest calibration score only
    p = np.full(50, 1 / 101)
    for confidence in (0.5, 0.9, 0.99):
        expected = stats.betabinom(50, 1, 100).ppf(confidence)
        assert false_discovery_bound(p, np.ones(50, bool), 100, confidence) == expected
    p[:3] = 0.5  # three more rows with p-values that say nothing
    assert false_discovery_bound(p, np.ones(50, bool), 100, 0.9) == stats.betabinom(50, 1, 100).ppf(0.9) + 3
    assert false_discovery_bound(p, np.zeros(50, bool), 100) == 0
    with pytest.raises(DataError, match="as many decisions"):
        false_discovery_bound(p, np.ones(3, bool), 100)


def test_combinations():
    rng = np.random.default_rng(0)
    p = rng.random((5, 3)) ** 2
    np.testing.assert_allclose(combined_p_values(p), np.minimum(2 * p.mean(1), 1))
    np.testing.assert_allclose(combined_p_values(p, "bonferroni"), np.minimum(3 * p.min(1), 1))
    expected = [stats.cauchy.sf(np.mean([np.tan((0.5 - one) * np.pi) for one in row])) for row in p]
    np.testing.assert_allclose(combined_p_values(p, "cauchy"), expected)
    same = rng.random(20_000)
    for how in ("mean", "bonferroni", "cauchy"):  # of three heads that agree
        combined = combined_p_values(np.stack([same] * 3, 1), how)
        assert (combined <= 0.05).mean() <= 0.055
    for how in ("mean", "bonferroni", "cauchy"):
        combined = combined_p_values(rng.random((20_000, 3)), how)
        assert (combined <= 0.05).mean() <= 0.055


def test_wrong_arguments():
    with pytest.raises(UsageError, match="there are mean, bonferroni, cauchy"):
        combined_p_values([[0.1]], "fisher")
    with pytest.raises(DataError, match=r"in \[0, 1\]"):
        discoveries([1.5])
    with pytest.raises(DataError, match="2 calibration rows need as many weights"):
        weighted_p_values([1.0, 2.0], [1.0], [1.0], [1.0])
    with pytest.raises(DataError, match="must be finite and not negative"):
        weighted_p_values([1.0], [1.0], [-1.0], [1.0])
    with pytest.raises(DataError, match="no calibration row has a positive weight"):
        weighted_p_values([1.0], [1.0], [0.0], [1.0])
