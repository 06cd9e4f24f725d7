"""The interval of a share that holds at all times."""

import math

import numpy as np
import pytest
from scipy import stats

from featood.decisions import running_interval
from featood.errors import DataError, UsageError
from featood.metrics import binomial_interval


@pytest.mark.parametrize(("hits", "rows"), [(0, 1), (1, 1), (0, 50), (3, 50), (50, 50), (500, 9000)])
def test_the_ends_are_where_a_bet_refutes_the_share(hits, rows):
    """The capital is the likelihood under a mixture of shares over that under the share, here by integration."""
    found = running_interval(hits, rows, 0.9)
    grid = stats.beta.ppf((np.arange(200_000) + 0.5) / 200_000, 0.5, 0.5)
    mixture = np.mean(stats.binom.pmf(hits, rows, grid))
    for end, inside in ((found.low, 1e-3), (found.high, -1e-3)):
        if 0 < end < 1:
            assert mixture / stats.binom.pmf(hits, rows, end) == pytest.approx(10, rel=0.02)
            assert mixture / stats.binom.pmf(hits, rows, end * (1 + inside)) < 10.5
    assert found.low <= found.estimate == hits / rows <= found.high
    if hits == 0:
        assert found.low == 0
    if hits == rows:
        assert found.high == 1


def test_it_contains_that_of_one_look_and_narrows():
    one, all_times = binomial_interval(50, 1000), running_interval(50, 1000)
    assert all_times.low < one.low and one.high < all_times.high
    assert all_times.high - all_times.low < 2.5 * (one.high - one.low)
    wide = [running_interval(rows // 20, rows) for rows in (20, 200, 2000, 20_000, 2_000_000)]
    lengths = [one.high - one.low for one in wide]
    assert lengths == sorted(lengths, reverse=True) and lengths[-1] < 0.002


@pytest.mark.parametrize("share", [0.05, 0.5])
def test_it_misses_the_share_at_any_time_as_rarely_as_asked_for(share):
    rng = np.random.default_rng(0)
    hits = (rng.random((1000, 2000)) < share).cumsum(1)
    rows = np.arange(1, 2001)
    # at the true share, the capital of the bet is compared instead of the ends
    from scipy.special import betaln, xlog1py, xlogy

    logs = (
        betaln(hits + 0.5, rows - hits + 0.5)
        - betaln(0.5, 0.5)
        - xlogy(hits, share)
        - xlog1py(rows - hits, -share)
    )
    missed = (logs >= math.log(10)).any(1)
    assert missed.mean() <= 0.1 + 3 * math.sqrt(0.09 / 1000)
    for stream in (0, int(missed.argmax())):
        ends = [running_interval(int(hits[stream, row]), row + 1, 0.9) for row in range(0, 2000, 37)]
        outside = [not one.low <= share <= one.high for one in ends]
        np.testing.assert_array_equal(outside, (logs[stream] >= math.log(10))[::37])
    assert missed.any()
    once = np.array([binomial_interval(int(k), 2000, 0.9) for k in hits[:, -1]])
    assert ((once[:, 1] <= share) & (share <= once[:, 2])).mean() >= 0.88


def test_mistakes():
    with pytest.raises(DataError, match="0 <= hits <= rows and at least one row, got 0 of 0"):
        running_interval(0, 0)
    with pytest.raises(DataError, match="got 3 of 2"):
        running_interval(3, 2)
    with pytest.raises(UsageError, match="the level must be between 0 and 1"):
        running_interval(1, 2, 1.0)
