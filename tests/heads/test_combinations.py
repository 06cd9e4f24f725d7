import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2, combine_pvalues, kstest, rankdata, spearmanr

from featood.errors import DataError, UsageError
from featood.heads import create_head, load_head
from featood.heads.compositions._p_values import p_values
from featood.testing.fixture import synthetic_sets

MEMBERS = ("mahalanobis", "knn k=7", "energy temperature=2.0")
TRAIN, TEST = synthetic_sets()
KNOWN = TRAIN.rows(np.asarray(TRAIN.labels) >= 0)

values = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=12)


def naive(reference, scores):
    """Interpolate SciPy's mean ranks at the distinct values, by NumPy."""
    distinct, first = np.unique(reference, return_index=True)
    return 1 - np.interp(scores, distinct, rankdata(reference)[first]) / (len(reference) + 1)


def found(reference, scores):
    ordered = torch.tensor(sorted(reference), dtype=torch.float64)[None]
    return p_values(ordered, torch.tensor(scores, dtype=torch.float64)[:, None])[:, 0].numpy()


def test_p_values_by_hand():
    expected = [4 / 5, 4 / 5, 3.5 / 5, 2.5 / 5, 1.75 / 5, 1 / 5, 1 / 5]
    np.testing.assert_allclose(found([1.0, 2.0, 2.0, 4.0], [0.0, 1.0, 1.3333333333333333, 2.0, 3.0, 4.0, 9.0]),
                               expected)  # fmt: skip


@given(values, values)
def test_p_values_with_ties(reference, scores):
    np.testing.assert_allclose(found(reference, scores), naive(np.array(reference), scores), rtol=1e-12)


@given(
    st.lists(st.floats(-1e30, 1e30), min_size=1, max_size=20), st.lists(st.floats(-1e30, 1e30), min_size=2)
)
def test_p_values_fall_as_scores_rise(reference, scores):
    p = found(reference, sorted(scores))
    assert (np.diff(p) <= 1e-12).all()
    assert (p >= 1 / (len(reference) + 1) - 1e-12).all() and (p < 1).all()


def test_p_values_of_each_score_are_its_own():
    rng = np.random.default_rng(0)
    reference, scores = rng.normal(size=(50, 3)) * [1, 10, 100], rng.normal(size=(20, 3)) * [1, 10, 100]
    ordered = torch.tensor(reference.T.copy()).sort(1).values
    together = p_values(ordered, torch.tensor(scores))
    for k in range(3):
        np.testing.assert_allclose(together[:, k], found(reference[:, k], scores[:, k]))


def members_p(data):
    columns = []
    for head in (create_head("mahalanobis"), create_head("knn", k=7), create_head("energy", temperature=2.0)):
        head = head.fit(TRAIN)
        columns.append(naive(head.score(KNOWN), head.score(data)))
    return np.stack(columns, 1)


def test_fisher_is_scipy_s_statistic():
    expected = [combine_pvalues(row, "fisher").statistic for row in members_p(TEST)]
    head = create_head("fisher", members=MEMBERS).fit(TRAIN)
    np.testing.assert_allclose(head.score(TEST), expected, rtol=1e-6)


def test_rank_average():
    head = create_head("rank-average", members=MEMBERS).fit(TRAIN)
    np.testing.assert_allclose(head.score(TEST), (1 - members_p(TEST)).mean(1), rtol=1e-6)


def test_fisher_of_one_member_follows_chi_squared_on_training_rows():
    scores = create_head("fisher", members=("mahalanobis",)).fit(TRAIN).score(KNOWN)
    assert kstest(scores, chi2(2).cdf).pvalue > 0.9


@pytest.mark.parametrize("name", ["fisher", "rank-average"])
def test_one_member_keeps_its_order(name):
    scores = create_head(name, members=("mahalanobis",)).fit(TRAIN).score(TEST)
    own = create_head("mahalanobis").fit(TRAIN).score(TEST)
    inside = own < create_head("mahalanobis").fit(TRAIN).score(KNOWN).max()
    assert inside.sum() > 50 and spearmanr(scores[inside], own[inside]).statistic == pytest.approx(1)


@pytest.mark.parametrize("name", ["fisher", "rank-average"])
def test_the_scale_of_a_member_does_not_matter(name):
    """A temperature of 1e-6 makes energies the largest logit, a million times less; ranks stay."""
    first = create_head(name, members=("mahalanobis", "max-logit")).fit(TRAIN).score(TEST)
    second = create_head(name, members=("mahalanobis", "energy temperature=1e-6")).fit(TRAIN).score(TEST)
    np.testing.assert_allclose(first, second, rtol=1e-3)


def test_certainty_outweighs_doubt_only_in_fisher():
    reference = torch.arange(1.0, 1000, dtype=torch.float64).expand(2, -1).contiguous()
    rows = torch.tensor([[1e9, 300.0], [700.0, 700.0]], dtype=torch.float64)  # certain and not; both a little
    fisher = create_head("fisher").combine(rows, {"reference": reference})
    ranks = create_head("rank-average").combine(rows, {"reference": reference})
    assert fisher[0] > fisher[1] and ranks[0] < ranks[1]


@pytest.mark.parametrize("name", ["fisher", "rank-average"])
def test_saved_with_all_that_scoring_needs(name, tmp_path):
    head = create_head(name, members=MEMBERS, sample=100).fit(TRAIN)
    head.save(tmp_path)
    assert np.array_equal(load_head(tmp_path).score(TEST), head.score(TEST))
    assert len(head.state["reference"][0]) <= 100


def test_combinations_nest():
    inner = create_head("fisher", members=("mahalanobis", "knn")).fit(TRAIN)
    outer = create_head("compose", members=('fisher members=\'["mahalanobis", "knn"]\'',)).fit(TRAIN)
    assert spearmanr(outer.score(TEST), inner.score(TEST)).statistic == pytest.approx(1)


def test_misuse():
    with pytest.raises(UsageError, match="lists the heads"):
        create_head("fisher", members="knn")
    with pytest.raises(UsageError, match="sample"):
        create_head("fisher", sample=0)
    few = TRAIN.rows(np.argsort(np.asarray(TRAIN.labels) >= 0, kind="stable")[:41])  # one known row among 41
    with pytest.raises(DataError, match="the sample has no usable row"):
        create_head("rank-average", members=("energy",), sample=1).fit(few)
