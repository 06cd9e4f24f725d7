import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from scipy.stats import binomtest, norm

from featood.errors import DataError, UsageError
from featood.metrics import (
    Placements,
    auroc,
    binomial_interval,
    delong_difference,
    delong_interval,
    fpr_at_tpr_id,
    fpr_interval,
    placements,
)

no_deadline = settings(deadline=None)  # the machine may be busy
scores = st.sampled_from([-1.5, 0.0, 0.25, 1.0, 4.0, -np.inf, np.inf]) | st.floats(-9, 9, width=32)
sides = st.tuples(
    st.lists(scores, min_size=2, max_size=20).map(np.array),
    st.lists(scores, min_size=2, max_size=20).map(np.array),
)


def kernel(x, y):
    """Return whether an OOD score is above an ID score, ties one half, whose mean is AUROC."""
    return 1.0 if y > x else 0.5 if y == x else 0.0


def naive_covariance(heads):
    """Compute the equations of DeLong, DeLong and Clarke-Pearson (1988) over all pairs of rows."""
    n, m, count = len(heads[0][0]), len(heads[0][1]), len(heads)
    table = [[[kernel(x, y) for y in ood] for x in inside] for inside, ood in heads]
    values = [sum(map(sum, one)) / (n * m) for one in table]
    by_id = [[sum(row) / m for row in one] for one in table]
    by_ood = [[sum(one[i][j] for i in range(n)) / n for j in range(m)] for one in table]
    covariance = np.zeros((count, count))
    for r in range(count):
        for s in range(count):
            s10 = sum((by_id[r][i] - values[r]) * (by_id[s][i] - values[s]) for i in range(n)) / (n - 1)
            s01 = sum((by_ood[r][j] - values[r]) * (by_ood[s][j] - values[s]) for j in range(m)) / (m - 1)
            covariance[r, s] = s10 / n + s01 / m
    return values, covariance


@no_deadline
@given(sides)
def test_variance_against_delong_over_all_pairs(head):
    (value,), covariance = naive_covariance([head])
    found = placements(*head)
    assert found.estimate == pytest.approx(value) == pytest.approx(auroc(*head))
    assert found.variance == pytest.approx(covariance[0, 0], abs=1e-15)


@no_deadline
@given(sides, sides)
def test_difference_against_delong_with_covariance(first, second):
    n, m = (min(len(a), len(b)) for a, b in zip(first, second, strict=True))
    heads = [(first[0][:n], first[1][:m]), (second[0][:n], second[1][:m])]
    values, covariance = naive_covariance(heads)
    found = delong_difference(*heads)
    assert found.estimate == pytest.approx(values[0] - values[1], abs=1e-15)
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    if variance > 1e-12:
        z = found.estimate / math.sqrt(variance)
        assert found.p == pytest.approx(2 * norm.sf(abs(z)))
        half = norm.ppf(0.975) * math.sqrt(variance)
        assert found.low == pytest.approx(max(found.estimate - half, -1), abs=1e-12)
        assert found.high == pytest.approx(min(found.estimate + half, 1), abs=1e-12)
    other = delong_difference(*reversed(heads))
    assert other == pytest.approx((-found.estimate, -found.high, -found.low, found.p), abs=1e-12)


@no_deadline
@given(sides, st.sampled_from([0.5, 0.9, 0.99]))
def test_intervals_are_in_bounds_and_symmetric(head, level):
    found = delong_interval(head, level)
    assert 0 <= found.low <= found.estimate + 1e-12 and found.estimate - 1e-12 <= found.high <= 1
    swapped = delong_interval((-head[1], -head[0]), level)
    assert swapped == pytest.approx(found, abs=1e-12)
    turned = delong_interval((-head[0], -head[1]), level)
    assert turned == pytest.approx((1 - found.estimate, 1 - found.high, 1 - found.low), abs=1e-9)
    ranks = np.unique(np.concatenate(head), return_inverse=True)[1].astype(float) ** 3
    stretched = ranks[: len(head[0])], ranks[len(head[0]) :]
    assert delong_interval(stretched, level) == found
    same = delong_difference(head, stretched, level)
    assert same.estimate == 0 and same.p == 1 and same.low <= 0 <= same.high


def test_the_interval_is_computed_on_the_logit_scale():
    rng = np.random.default_rng(0)
    head = rng.normal(size=60), rng.normal(2, 1, 45)
    (value,), covariance = naive_covariance([head])
    half = norm.ppf(0.95) * math.sqrt(covariance[0, 0]) / (value * (1 - value))
    expected = value, expit(logit(value) - half), expit(logit(value) + half)
    assert delong_interval(head, 0.9) == pytest.approx(expected)


def test_intervals_without_variance_use_disjoint_pairs():
    low = binomtest(20, 20).proportion_ci().low  # 20 of 20 pairs in the right order
    assert delong_interval((np.zeros(20), np.ones(50))) == pytest.approx((1, low, 1))
    assert delong_interval((np.ones(50), np.zeros(20))) == pytest.approx((0, 0, 1 - low))
    assert delong_interval((np.zeros(20), np.zeros(50))) == pytest.approx((0.5, low / 2, 1 - low / 2))
    perfect, useless = (np.zeros(20), np.ones(50)), (np.zeros(20), np.zeros(50))
    found = delong_difference(perfect, useless)
    assert found.p == pytest.approx(binomtest(20, 20, 0.5).pvalue) and found.low > 0 and found.high <= 1
    same = delong_difference(perfect, perfect)
    assert same.p == 1 and same.low < 0 < same.high
    assert delong_interval(([0.0], [1.0, 2.0])) == (1, 0, 1)
    assert delong_difference(([0.0], [1.0, 2.0]), ([0.0], [1.0, -2.0])) == (0.5, -1, 1, 1)


def test_the_mean_over_sets_counts_the_id_rows_once():
    rng = np.random.default_rng(1)
    inside, odd, strange = rng.normal(size=300), rng.normal(1, 1, 200), rng.normal(2, 1, 100)
    mean = Placements.mean([placements(inside, odd), placements(inside, strange)])
    assert mean.estimate == pytest.approx((auroc(inside, odd) + auroc(inside, strange)) / 2)
    # the variance over new samples of all three sets, by brute force
    drawn = []
    for _ in range(3000):
        rows = rng.normal(size=300)
        drawn.append((auroc(rows, rng.normal(1, 1, 200)) + auroc(rows, rng.normal(2, 1, 100))) / 2)
    assert mean.variance == pytest.approx(np.var(drawn), rel=0.15)
    independent = (placements(inside, odd).variance + placements(inside, strange).variance) / 4
    assert mean.variance > 1.15 * independent  # the variance if each set had different ID rows


def test_a_mean_of_means_gives_each_part_the_same_weight():
    rng = np.random.default_rng(2)
    inside, places = rng.normal(size=800), ((1, 600), (1.5, 500), (2, 400))
    odd = [rng.normal(place, 1, rows) for place, rows in places]
    near = Placements.mean([placements(inside, rows) for rows in odd[:2]])
    mean = Placements.mean([near, placements(inside, odd[2])])
    areas = [auroc(inside, rows) for rows in odd]
    assert mean.estimate == pytest.approx((areas[0] + areas[1]) / 4 + areas[2] / 2)
    drawn = []
    for _ in range(1000):
        rows = rng.normal(size=800)
        found = [auroc(rows, rng.normal(place, 1, count)) for place, count in places]
        drawn.append((found[0] + found[1]) / 4 + found[2] / 2)
    assert mean.variance == pytest.approx(np.var(drawn), rel=0.15)
    assert (mean - mean).variance == 0
    # without variance: a share of the pairs of each set, by its weight
    perfect = [placements(np.zeros(20), np.ones(rows)) for rows in (5, 10, 20)]
    separated = Placements.mean([Placements.mean(perfect[:2]), perfect[2]])
    known = [(0.025 / 3) ** (1 / rows) for rows in (5, 10, 20)]
    assert delong_interval(separated) == pytest.approx((1, known[0] / 4 + known[1] / 4 + known[2] / 2, 1))


@no_deadline
@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.5, 0.999))
def test_binomial_interval_against_scipy(counts, level):
    hits, rows = counts
    expected = binomtest(hits, rows).proportion_ci(level)
    assert binomial_interval(hits, rows, level) == pytest.approx((hits / rows, expected.low, expected.high))


@no_deadline
@given(sides)
def test_fpr_interval_is_binomial_in_the_accepted_rows(head):
    share = fpr_at_tpr_id(*head)
    accepted = round(share * len(head[1]))
    expected = binomtest(accepted, len(head[1])).proportion_ci()
    assert fpr_interval(*head) == pytest.approx((share, expected.low, expected.high))


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([0.0, 1.0, -0.5, 1.5]))
def test_invalid_arguments_are_refused(level):
    head = [0.0, 1.0], [2.0]
    for call in (
        lambda: delong_interval(head, level),
        lambda: delong_difference(head, head, level),
        lambda: binomial_interval(1, 2, level),
        lambda: fpr_interval(*head, level=level),
    ):
        with pytest.raises(UsageError, match="level"):
            call()
    with pytest.raises(DataError, match="same rows"):
        delong_difference(head, ([0.0], [2.0]))
    with pytest.raises(DataError, match="3 of 2"):
        binomial_interval(3, 2)
    with pytest.raises(DataError, match="NaN"):
        delong_interval(([np.nan], [0.0]))


def test_coverage_is_measured(script):
    measured = script("intervals")
    rng = np.random.default_rng(0)
    held = [dict(measured.one_sample(rng, 200, 200, 0.95, only="delong")) for _ in range(300)]
    shares = {name: np.mean([one[name] for one in held]) for name in held[0]}
    # two standard deviations of 300 samples below and above 95 %
    assert all(0.925 <= shares[name] <= 0.98 for name in ("delong", "difference", "at threshold"))
    assert shares["as fpr95"] < 0.85 and shares["separable"] == 0  # as the threshold is estimated
    assert set(dict(measured.one_sample(rng, 20, 20, 0.9, 20))) >= {"bootstrap", "fpr95"}
