"""P-values of streams, and the capital of bets against them."""

import math

import numpy as np
import pytest
from scipy import integrate, stats

from featood.decisions import Capital, bet, change_start, online_p_values, p_values
from featood.decisions.martingales import BETS, VIEWS
from featood.errors import DataError, UsageError

ALL = {"higher": 0.7, "lower": 0.1, "wider": 0.1, "narrower": 0.1}


class Half(np.random.Generator):
    """Breaks all ties in the middle."""

    def random(self, size):
        return np.full(size, 0.5)


def naive_p_values(known, scores):
    seen, found = list(known), []
    for score in scores:
        seen.append(score)
        higher = sum(other > score for other in seen)
        same = sum(other == score for other in seen)
        found.append((higher + 0.5 * same) / len(seen))
    return found


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("rows", [1, 3, 256, 700])
def test_p_values_are_ranks_among_all_rows_before(rows, ties):
    rng = np.random.default_rng(rows)
    known, scores = rng.normal(size=50), rng.normal(size=rows)
    if ties:
        known, scores = known.round(1), scores.round(1)
    found, after = online_p_values(np.sort(known), scores, Half(np.random.PCG64()))
    np.testing.assert_allclose(found, naive_p_values(known, scores), rtol=1e-12)
    np.testing.assert_array_equal(after, np.sort(np.concatenate([known, scores])))


def test_batches_continue_each_other():
    rng = np.random.default_rng(0)
    known, scores = np.sort(rng.normal(size=30)), rng.normal(size=600)
    whole, after = online_p_values(known, scores, np.random.default_rng(1))
    generator, parts = np.random.default_rng(1), []
    for part in np.split(scores, [7, 8, 300]):
        found, known = online_p_values(known, part, generator)
        parts.append(found)
    np.testing.assert_allclose(np.concatenate(parts), whole)
    np.testing.assert_array_equal(known, after)


@pytest.mark.parametrize("decimals", [0, 8])
def test_p_values_of_exchangeable_rows_are_uniform(decimals):
    rng = np.random.default_rng(0)
    found = []
    for _ in range(100):
        scores = rng.normal(size=40 + 300).round(decimals)
        found.append(online_p_values(np.sort(scores[:40]), scores[40:], rng, most=100)[0])
    assert stats.kstest(np.concatenate(found), "uniform").pvalue > 0.001


@pytest.mark.parametrize("most", [2, 100])
def test_p_values_of_exchangeable_rows_are_independent(most):
    """Two calibration rows and three rows of a stream: all 27 combinations of thirds are equally frequent."""
    rng = np.random.default_rng(0)
    table, fixed = np.zeros((3, 3, 3)), np.zeros((3, 3, 3))
    for _ in range(600):
        scores = rng.normal(size=5)
        known, thirds = np.sort(scores[:2]), []
        for score in scores[2:]:
            p, known = online_p_values(known, [score], rng, most)
            thirds.append(int(3 * p[0]))
        table[tuple(thirds)] += 1
        fixed[tuple((3 * p_values(scores[:2], scores[2:], rng)).astype(int))] += 1
    assert stats.chisquare(table.ravel()).pvalue > 0.001
    # those of one calibration set are not
    assert stats.chisquare(fixed.ravel()).pvalue < 1e-9


def test_scores_are_forgotten_beyond_the_most():
    rng = np.random.default_rng(0)
    known = np.sort(rng.normal(size=100))
    _, after = online_p_values(known, rng.normal(size=1000), rng, most=100)
    assert len(after) == 100 and (np.diff(after) >= 0).all()
    assert np.isin(after, known).sum() < 20


def test_no_rows():
    found, known = online_p_values(np.arange(3.0), [], np.random.default_rng(0))
    assert len(found) == 0 and known.tolist() == [0, 1, 2]
    capital = Capital.initial()
    assert bet(capital, found)[0] == capital and capital.log == 0
    with pytest.raises(DataError, match="no calibration scores"):
        online_p_values(np.zeros(0), [1.0], np.random.default_rng(0))
    with pytest.raises(DataError, match="NaN"):
        online_p_values(np.arange(3.0), [float("nan")], np.random.default_rng(0))


def naive_capital(p, parts):
    """Return the capital after each row: each bet of each view starts after each row with a part of the capital."""
    found = []
    for t in range(1, len(p) + 1):
        total = math.log(100) / math.log(100 + t)
        for view, part in parts.items():
            values = VIEWS[view](p)
            for share, power in BETS:
                for start in range(t):
                    stake = math.log(100) * (1 / math.log(100 + start) - 1 / math.log(101 + start))
                    grown = 1.0
                    for value in values[start:t]:
                        grown *= 1 - share + share * power * value ** (power - 1)
                    total += stake * part / len(BETS) * grown
        found.append(total)
    return np.array(found)


@pytest.mark.parametrize("parts", [{"higher": 1.0}, ALL])
def test_the_capital_is_that_of_a_naive_sum_over_bets_and_starts(parts):
    p = np.random.default_rng(0).random(25) ** 1.5
    expected = naive_capital(p, parts)
    capital, found = bet(Capital.initial(parts), p)
    np.testing.assert_allclose(np.exp(found), expected, rtol=1e-10)
    assert capital.log == pytest.approx(found[-1]) and capital.rows == 25
    capital, first = bet(Capital.initial(parts), p[:11])
    capital, second = bet(capital, p[11:])
    np.testing.assert_allclose(np.concatenate([first, second]), found, rtol=1e-10)


def test_each_bet_is_fair():
    for view in VIEWS.values():
        # the views are uniform
        np.testing.assert_allclose(
            np.sort(view((np.arange(10_000) + 0.5) / 10_000)), np.arange(10_000) / 10_000, atol=3e-4
        )
    for share, power in BETS:
        value, _ = integrate.quad(lambda u: 1 - share + share * power * u ** (power - 1), 0, 1)  # noqa: B023
        assert value == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("rows", [0, 1, 30])
def test_the_expected_capital_after_the_next_row_is_the_capital(rows):
    """A uniform p-value is integrated over; bets are infinite at 0, 1/2 and 1, where the nodes are dense."""
    capital, _ = bet(Capital.initial(ALL), np.random.default_rng(0).random(rows) ** 1.3)
    nodes, weights = np.polynomial.legendre.leggauss(60)
    nodes, weights = (nodes + 1) / 2, weights / 2 * stats.beta.pdf((nodes + 1) / 2, 6, 6)
    places = stats.beta.cdf(nodes, 6, 6) / 2
    values = np.concatenate([places, 0.5 + places])
    after = [math.exp(bet(capital, np.array([value]))[0].log) for value in values]
    expected = float(np.dot(np.tile(weights / 2, 2), after))
    assert expected == pytest.approx(math.exp(capital.log), rel=1e-3)


def any_alarm(p_of, streams, rows, alpha):
    """Return the share of in-distribution streams with any alarm; 100 calibration rows each."""
    alarms = 0
    for number in range(streams):
        rng = np.random.default_rng(number)
        scores = rng.normal(size=100 + rows)
        p = p_of(np.sort(scores[:100]), scores[100:], rng)
        alarms += bool((bet(Capital.initial(ALL), p)[1] >= -math.log(alpha)).any())
    return alarms / streams


def test_alarms_on_in_distribution_streams_are_as_rare_as_asked_for():
    found = any_alarm(lambda *of: online_p_values(*of)[0], 100, 2000, 0.1)
    assert found <= 0.1
    # the same bets on p-values that are ranked among the calibration rows only are wrong
    assert any_alarm(p_values, 30, 2000, 0.1) > 0.3


@pytest.mark.parametrize("power", [0.2, 0.5])
@pytest.mark.parametrize("start", [0, 2000])
def test_the_delay_is_near_that_of_the_likelihood_ratio(power, start):
    delays, known = [], []
    for number in range(30):
        rng = np.random.default_rng(number)
        p = rng.random(start + 400)
        p[start:] **= 1 / power  # density power u^(power - 1)
        delays.append(np.argmax(bet(Capital.initial(ALL), p)[1] >= math.log(100)) + 1 - start)
        ratio = np.log(power) + (power - 1) * np.log(p[start:])
        known.append(np.argmax(ratio.cumsum() >= math.log(100)) + 1)
    assert min(delays) > 0
    # the start of the change costs about log(2000 log(2000)), as much as the alarm itself
    assert np.mean(delays) < (2.5 if start == 0 else 5) * np.mean(known)


@pytest.mark.parametrize(
    ("view", "change"),
    [
        ("higher", lambda u: 0.3 * u),
        ("lower", lambda u: 1 - 0.3 * u),
        ("wider", lambda u: np.where(u < 0.5, 0.2 * u, 1 - 0.2 * (1 - u))),
        ("narrower", lambda u: 0.4 + 0.2 * u),
    ],
)
def test_the_winner_is_the_change(view, change):
    rng = np.random.default_rng(0)
    p = np.concatenate([rng.random(300), change(rng.random(200))])
    capital, found = bet(Capital.initial(ALL), p)
    assert found[299] < math.log(100) < capital.log and capital.winner == view
    assert abs(change_start(p, [view]) - 300) < 40


def test_parts_are_checked():
    with pytest.raises(UsageError, match="bets are on higher, lower, wider, narrower, not up"):
        Capital.initial({"up": 1.0})
    for parts in ({}, {"higher": 0.5}, {"higher": 1.5, "lower": -0.5}):
        with pytest.raises(UsageError, match="positive and add up to 1"):
            Capital.initial(parts)


def test_extreme_p_values_keep_the_capital_finite():
    for value in (0.0, 1e-300, 0.5, 1.0):
        capital, found = bet(Capital.initial(ALL), np.full(1000, value))
        assert np.isfinite(found).all() and math.isfinite(capital.log)
    assert bet(Capital.initial(), np.ones(10**5))[0].log == pytest.approx(
        math.log(math.log(100) / math.log(100_100)), abs=0.1
    )
