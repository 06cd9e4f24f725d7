import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import friedmanchisquare, rankdata, t

from featood.errors import DataError
from featood.metrics import cliques, holm, rank_heads

no_deadline = settings(deadline=None)  # the machine may be busy
tables = st.tuples(st.integers(3, 7), st.integers(3, 6)).flatmap(
    lambda shape: arrays(float, shape, elements=st.sampled_from([0.1, 0.2, 0.5, 0.7, 0.9]))
)


def naive_holm(p_values):
    corrected, floor = {}, 0.0
    for step, place in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        floor = max(floor, min(1.0, (len(p_values) - step) * p_values[place]))
        corrected[place] = floor
    return [corrected[place] for place in range(len(p_values))]


def naive_conover(values):
    """Compute Conover's test (1999, section 5.8) for each pair."""
    b, k = values.shape
    ranks = [rankdata([-value for value in row]) for row in values]
    sums = [sum(row[j] for row in ranks) for j in range(k)]
    a1 = sum(rank**2 for row in ranks for rank in row)
    spread = (2 * (b * a1 - sum(r**2 for r in sums)) / ((b - 1) * (k - 1))) ** 0.5
    pairs = [(i, j) for i in range(k) for j in range(i + 1, k)]
    p_values = [2 * t.sf(abs(sums[i] - sums[j]) / spread, (b - 1) * (k - 1)) for i, j in pairs]
    return dict(zip(pairs, naive_holm(p_values), strict=True)), [r / b for r in sums]


@no_deadline
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_the_step_down_method(p_values):
    assert holm(p_values) == pytest.approx(naive_holm(p_values))


def test_holm_by_hand():
    # Holm (1979): the smallest is compared with alpha / n, the next with alpha / (n - 1), ...
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@no_deadline
@given(tables)
def test_ranks_and_tests_against_the_formulas(values):
    found = rank_heads(values)
    sums = np.sum([rankdata(-row) for row in values], 0)
    assert found.mean_ranks == pytest.approx(sums / len(values))
    if np.ptp(sums) == 0 or (np.ptp(values, 1) == 0).all():
        assert found.p > 0.99 and len(found.cliques) == 1
        return
    expected = friedmanchisquare(*values.T)
    assert (found.statistic, found.p) == pytest.approx((expected.statistic, expected.pvalue))
    a1 = sum((rankdata(row) ** 2).sum() for row in values)
    if len(values) * a1 - (sums**2).sum() > 1e-9:
        pairwise, _ = naive_conover(values)
        for (i, j), p in pairwise.items():
            assert found.pairwise[i, j] == found.pairwise[j, i] == pytest.approx(p, abs=1e-12)


@no_deadline
@given(tables, st.sampled_from([0.5, 0.8, 0.95]))
def test_cliques_are_the_maximal_groups_in_which_no_two_differ(values, level):
    found = rank_heads(values, level)
    k = values.shape[1]
    differ = (found.pairwise < 1 - level) & (found.p < 1 - level)
    for clique in found.cliques:
        assert not any(differ[i, j] for i in clique for j in clique)
        for other in set(range(k)) - set(clique):
            assert any(differ[other, i] for i in clique)  # the clique is maximal
    for i in range(k):
        for j in range(k):
            together = any(i in clique and j in clique for clique in found.cliques)
            assert together == (not differ[i, j])


@no_deadline
@given(arrays(bool, (6, 6)), st.permutations(range(6)))
def test_cliques_in_an_order_are_the_maximal_runs_whatever_differs(drawn, order):
    differ = (drawn | drawn.T) & ~np.eye(6, dtype=bool)
    alike = [
        set(order[first:last])
        for first in range(6)
        for last in range(first + 1, 7)
        if not any(differ[i, j] for i in order[first:last] for j in order[first:last])
    ]
    maximal = [run for run in alike if not any(run < other for other in alike)]
    found = cliques(order, differ)
    assert [set(run) for run in found] == maximal
    assert all(run == sorted(run, key=order.index) for run in found)


@no_deadline
@given(tables, st.permutations(range(6)))
def test_the_order_of_heads_and_the_scale_of_the_metric_do_not_matter(values, order):
    order = [place for place in order if place < values.shape[1]]
    found, moved = rank_heads(values), rank_heads(np.exp(values[:, order]))
    assert moved.mean_ranks == pytest.approx(found.mean_ranks[order])
    assert moved.pairwise == pytest.approx(found.pairwise[np.ix_(order, order)])
    assert {frozenset(order[i] for i in clique) for clique in moved.cliques} == set(
        map(frozenset, found.cliques)
    )


def test_heads_with_the_same_order_on_all_sets_differ_and_tied_heads_form_one_clique():
    clear = rank_heads([[0.9, 0.8, 0.7]] * 4)
    assert clear.cliques == [[0], [1], [2]] and clear.mean_ranks.tolist() == [1, 2, 3]
    assert clear.pairwise[np.triu_indices(3, 1)].tolist() == [0, 0, 0]
    none = rank_heads([[0.5, 0.5, 0.5]] * 4)
    assert none.p == 1 and none.cliques == [[0, 1, 2]] and (none.pairwise == 1).all()


@pytest.mark.parametrize("shape", [(2, 5), (5, 2), (3,), (0, 3)])
def test_too_few_sets_or_heads_are_refused(shape):
    with pytest.raises(DataError, match="three sets and three heads"):
        rank_heads(np.zeros(shape))
