"""Tests of two samples of features."""

import numpy as np
import pytest
from scipy import stats

from featood.decisions import changed_features, mmd


def naive_mmd(x, y):
    rows = [*x, *y]
    distances = [float(((a - b) ** 2).sum()) for i, a in enumerate(rows) for b in rows[:i]]
    width = np.median(distances)

    def kernel(a, b):
        return np.exp(-((a - b) ** 2).sum() / (2 * width))

    def mean(pairs):
        values = [kernel(a, b) for a, b in pairs]
        return sum(values) / len(values)

    same_x = mean((a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j)
    same_y = mean((a, b) for i, a in enumerate(y) for j, b in enumerate(y) if i != j)
    return same_x + same_y - 2 * mean((a, b) for a in x for b in y)


@pytest.mark.parametrize("shift", [0.0, 0.7])
def test_the_discrepancy_is_that_of_a_naive_loop(shift):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(14, 3)), rng.normal(size=(9, 3)) + shift
    found = mmd(x.astype(np.float32), y.astype(np.float32), rng)
    assert found.value == pytest.approx(naive_mmd(x, y), rel=1e-5)


def test_its_p_value_is_that_of_all_divisions():
    from itertools import combinations

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(5, 2)), rng.normal(size=(4, 2)) + 0.8
    rows = np.concatenate([x, y])
    values = []
    for chosen in combinations(range(9), 5):
        mask = np.isin(np.arange(9), chosen)
        values.append(naive_mmd(rows[mask], rows[~mask]))
    exact = np.mean(np.array(values) >= naive_mmd(x, y) - 1e-12)
    found = mmd(x, y, np.random.default_rng(1), permutations=3000).p_value
    assert found == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 3000) + 1e-3)


def test_its_p_value_is_uniform_without_a_difference():
    rng = np.random.default_rng(0)
    found = [mmd(rng.normal(size=(30, 2)), rng.normal(size=(20, 2)), rng, 99).p_value for _ in range(300)]
    assert stats.kstest(np.array(found) - rng.random(300) / 100, "uniform").pvalue > 0.001
    assert mmd(rng.normal(size=(100, 2)), rng.normal(size=(50, 2)) + 1, rng).p_value == 1 / 200


def test_equal_rows_do_not_divide_by_zero():
    assert mmd(np.ones((5, 2)), np.ones((4, 2)), np.random.default_rng(0)) == (0.0, 1.0)


def test_changed_features_are_found_one_by_one():
    rng = np.random.default_rng(0)
    reference, rows = rng.normal(size=(400, 30)), rng.normal(size=(200, 30))
    rows[:, 3] += 1
    rows[:, 7] *= 3
    assert np.flatnonzero(changed_features(reference, rows)).tolist() == [3, 7]
    p = [stats.ks_2samp(reference[:, column], rows[:, column], method="asymp").pvalue for column in range(30)]
    np.testing.assert_array_equal(
        changed_features(reference, rows, 0.5), stats.false_discovery_control(p) <= 0.5
    )
