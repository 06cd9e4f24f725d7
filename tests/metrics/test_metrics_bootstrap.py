import math

import numpy as np
import pytest
from scipy.stats import norm

from featood.errors import DataError, UsageError
from featood.metrics import (
    METRICS,
    bootstrap_difference,
    bootstrap_draws,
    bootstrap_intervals,
    detection_metrics,
    paired_difference,
)


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def heads(rng, n_id=60, n_ood=45):
    """Return scores of two heads on the same rows that differ by little noise, rounded to create ties."""
    id_common, ood_common = rng.normal(size=n_id), rng.normal(1.0, 1.0, n_ood)
    return [
        (np.round(id_common + rng.normal(0, s, n_id), 1), np.round(ood_common + rng.normal(0, s, n_ood), 1))
        for s in (0.1, 0.3)
    ]


def resamples(n_id, n_ood, n):
    """Draw the rows of n resamples in the same way as the code."""
    id_generator, ood_generator = np.random.default_rng(7).spawn(2)
    id_rows = id_generator.integers(n_id, size=(n, n_id))
    return zip(id_rows, ood_generator.integers(n_ood, size=(n, n_ood)), strict=True)


@pytest.mark.parametrize("step", [50, 9])
def test_metrics_of_resamples_are_those_of_their_rows(rng, monkeypatch, step):
    monkeypatch.setattr("featood.metrics.bootstrap._CELLS", step * 105)
    (id_scores, ood_scores), _ = heads(rng)
    id_scores[0], ood_scores[0] = -np.inf, np.inf
    intervals = bootstrap_intervals(id_scores, ood_scores, n=50, generator=np.random.default_rng(7))
    rows = [detection_metrics(id_scores[i], ood_scores[o]) for i, o in resamples(60, 45, 50)]
    everything = detection_metrics(id_scores, ood_scores)
    assert list(intervals) == list(METRICS)
    for name, interval in intervals.items():
        low, high = np.quantile([row[name] for row in rows], [0.025, 0.975])
        assert interval.estimate == everything[name]
        assert (interval.low, interval.high) == pytest.approx((low, high), abs=1e-12)


def test_the_paired_difference_uses_the_same_rows_for_both_heads(rng):
    first, second = heads(rng)
    names = ["auroc", "fpr95_ood"]
    found = paired_difference(first, second, names, n=40, level=0.8, generator=np.random.default_rng(7))
    for name in names:

        def difference(i, o, name=name):
            one, two = (detection_metrics(head[0][i], head[1][o]) for head in (first, second))
            return one[name] - two[name]

        low, high = np.quantile([difference(i, o) for i, o in resamples(60, 45, 40)], [0.1, 0.9])
        assert found[name].estimate == difference(slice(None), slice(None))
        assert (found[name].low, found[name].high) == pytest.approx((low, high))


def test_a_head_does_not_differ_from_itself_rescaled(rng):
    (id_scores, ood_scores), _ = heads(rng)
    stretched = (np.exp(id_scores), np.exp(ood_scores))
    found = paired_difference((id_scores, ood_scores), stretched, ["auroc", "fpr95"], n=30, generator=rng)
    assert all(interval == (0, 0, 0, 1) for interval in found.values())


def test_about_95_percent_of_the_intervals_cover_the_true_value(rng):
    truth = (1 + math.erf(0.5)) / 2  # P(N(1, 1) > N(0, 1))
    held = 0
    for _ in range(200):
        interval = bootstrap_intervals(
            rng.normal(size=80), rng.normal(1, 1, 80), ["auroc"], n=200, generator=rng
        )["auroc"]
        held += interval.low <= truth <= interval.high
    assert 175 <= held <= 199


def test_sets_can_share_the_resamples_of_their_id_rows(rng):
    (id_scores, ood_scores), _ = heads(rng)
    other = rng.normal(2, 1, 33)
    found = []
    for values in (ood_scores, other):
        generators = [np.random.default_rng(seed) for seed in (5, 6)]
        found.append(
            bootstrap_draws(
                id_scores, values, ["fpr95"], n=9, id_generator=generators[0], ood_generator=generators[1]
            )
        )
    id_rows = np.random.default_rng(5).integers(60, size=(9, 60))
    for values, draws in zip((ood_scores, other), found, strict=True):
        ood_rows = np.random.default_rng(6).integers(len(values), size=(9, len(values)))
        expected = [
            detection_metrics(id_scores[i], values[o])["fpr95"]
            for i, o in zip(id_rows, ood_rows, strict=True)
        ]
        np.testing.assert_allclose(draws, [expected])


def test_the_test_of_a_difference_assumes_a_normal_distribution(rng):
    draws = rng.normal(0.02, 0.01, 4000)
    found = bootstrap_difference(0.02, draws, 0.9)
    assert found.p == pytest.approx(2 * norm.sf(0.02 / np.std(draws, ddof=1)))
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(draws, [0.05, 0.95])))
    # without variance, p depends only on the number of resamples
    assert bootstrap_difference(0.5, np.full(99, 0.5), 0.95).p == pytest.approx(0.02)
    assert bootstrap_difference(0.0, np.zeros(99), 0.95).p == 1


def test_invalid_arguments_are_refused(rng):
    with pytest.raises(UsageError, match="unknown metric 'auc'"):
        bootstrap_intervals([0.0], [1.0], ["auc"], generator=rng)
    with pytest.raises(UsageError, match="n=0"):
        bootstrap_intervals([0.0], [1.0], n=0, generator=rng)
    with pytest.raises(UsageError, match="level=1"):
        bootstrap_intervals([0.0], [1.0], level=1, generator=rng)
    with pytest.raises(DataError, match="same rows"):
        paired_difference(([0.0], [1.0]), ([0.0, 1.0], [1.0]), generator=rng)
    with pytest.raises(DataError, match="NaN"):
        bootstrap_intervals([0.0, np.nan], [1.0], generator=rng)
