"""Thresholds, against counting and the law of order statistics."""

import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from featood.decisions import alarm_rate_interval, class_thresholds, rows_needed, threshold
from featood.errors import DataError, UsageError


def smallest(scores, rate):
    """The smallest score with (1 + scores above or equal the next) / (n + 1) at most the rate, by counting."""
    n, rate = len(scores), Fraction(str(rate))
    for value in sorted(scores):
        if Fraction(1 + sum(score > value for score in scores), n + 1) <= rate:
            return value
    return None


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.07, 0.1, 0.29, 0.5, 0.9])
@pytest.mark.parametrize("rows", [1, 9, 19, 99, 100, 101, 357])
def test_the_threshold_is_the_smallest_that_keeps_the_rate(rows, rate):
    scores = np.random.default_rng(rows).normal(size=rows)
    expected = smallest(scores.tolist(), rate)
    if expected is None:
        with pytest.raises(DataError, match=f"{rows_needed(rate)} are needed"):
            threshold(scores, rate)
        assert rows < rows_needed(rate)
    else:
        assert threshold(scores, rate) == expected and rows >= rows_needed(rate)


def test_rows_needed_are_needed():
    for rate in (0.001, 1 - 0.999, 0.01, 0.05, 0.07, 0.3):
        for confidence in (None, 0.9, 0.99):
            rows = rows_needed(rate, confidence)
            threshold(np.arange(rows), rate, confidence)
            with pytest.raises(DataError, match=f"{rows - 1} calibration rows are too few"):
                threshold(np.arange(rows - 1) if rows > 1 else [], rate, confidence)
    assert rows_needed(0.05) == 19 and rows_needed(0.01) == 99 and rows_needed(0.05, 0.95) == 59


def test_false_alarms_follow_their_law():
    rng = np.random.default_rng(0)
    rows, rate = 200, 0.05
    found = np.array([1 - threshold(rng.random(rows), rate) for _ in range(1500)])  # of uniform scores
    assert found.mean() == pytest.approx(10 / 201, abs=0.0012)
    # 10 of 201 may be above: Beta(10, 191)
    assert stats.kstest(found, stats.beta(10, 191).cdf).pvalue > 0.01
    low, high = alarm_rate_interval(rows, rate)
    assert ((found >= low) & (found <= high)).mean() == pytest.approx(0.95, abs=0.017)
    np.testing.assert_allclose([low, high], stats.beta(10, 191).ppf([0.025, 0.975]))


def test_with_confidence_most_calibration_sets_keep_the_rate():
    rng = np.random.default_rng(0)
    found = np.array([1 - threshold(rng.random(300), 0.1, confidence=0.9) for _ in range(1500)])
    kept = (found <= 0.1).mean()
    assert 0.885 < kept < 0.945, "the order statistics are discrete, so it is a little more"


def test_rows_with_equal_scores_are_accepted():
    assert threshold([1.0] * 50, 0.05) == 1.0
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 6, 4000).astype(float)
    assert (rng.integers(0, 6, 4000) > threshold(scores, 0.05)).mean() <= 0.05
    assert threshold([0.0, 1.0, math.inf], 0.25) == math.inf


def test_thresholds_of_classes_are_those_of_their_rows():
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 3, 500)
    scores = rng.normal(size=500) + classes
    found = class_thresholds(scores, classes, 3, 0.07)
    np.testing.assert_array_equal(found, [threshold(scores[classes == k], 0.07) for k in range(3)])
    with pytest.raises(
        DataError, match=r"19 calibration rows of each class .* fewer of cat \(0\), dog \(1\)"
    ):
        class_thresholds([1.0], np.array([1]), 2, names=("cat", "dog"))


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_rates_are_shares(rate):
    with pytest.raises(UsageError, match="between 0 and 1"):
        threshold([1.0, 2.0], rate)


def test_scores_are_numbers():
    with pytest.raises(DataError, match="there are no calibration scores"):
        threshold([])
    with pytest.raises(DataError, match="1 of 2 calibration scores are NaN"):
        threshold([1.0, float("nan")])
