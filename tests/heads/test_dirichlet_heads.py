import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import digamma, gammaln
from scipy.stats import dirichlet, spearmanr

from featood.heads import create_head
from featood.numerics import dirichlet as numerics
from featood.testing import synthetic_sets

_, TEST = synthetic_sets()
LOGITS = TEST.logits.astype(float)


def by_scipy(alpha):
    """The textbook forms, row by row."""
    rows = []
    for row in alpha:
        total, p = row.sum(), row / row.sum()
        expected = -sum(q * (digamma(a + 1) - digamma(total + 1)) for q, a in zip(p, row, strict=True))
        rows.append(
            {
                "dirichlet-max-probability": -p.max(),
                "expected-entropy": expected,
                "mutual-information": -sum(q * math.log(q) for q in p) - expected,
                "epkl": (len(row) - 1) / total,
                "dirichlet-differential-entropy": dirichlet(row).entropy(),
                "precision": -math.log(total),
            }
        )
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


NAMES = list(by_scipy(np.ones((1, 2))))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("prior", [1.0, 0.0, 0.25])
def test_agrees_with_scipy(name, prior):
    expected = by_scipy(np.exp(LOGITS) + prior)[name]
    found = create_head(name, prior=prior).score(TEST)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_prior_is_one_by_default(name):
    np.testing.assert_array_equal(create_head(name).score(TEST), create_head(name, prior=1.0).score(TEST))


@pytest.mark.parametrize("name", ["mutual-information", "expected-entropy"])
def test_entropies_lie_between_none_and_uniform(name):
    scores = create_head(name).score(TEST)
    assert (scores >= 0).all() and (scores <= math.log(LOGITS.shape[1])).all()


def test_without_prior_the_precision_is_the_energy():
    same = {"rtol": 1e-6}  # those of logits have exponentials in float32
    energy = create_head("energy").score(TEST)
    np.testing.assert_allclose(create_head("precision", prior=0.0).score(TEST), energy, **same)
    msp = create_head("msp").score(TEST)
    np.testing.assert_allclose(create_head("dirichlet-max-probability", prior=0.0).score(TEST), msp, **same)
    assert spearmanr(create_head("precision").score(TEST), energy).statistic == pytest.approx(1)


@given(st.lists(st.floats(-20, 6), min_size=2, max_size=8))
def test_numerics_agree_with_the_textbook(logits):
    alpha = np.exp(np.array([logits]))
    log_alpha = numerics.concentrations(torch.tensor([logits], dtype=torch.float64))
    expected = by_scipy(alpha)
    for name, function in (
        ("expected-entropy", numerics.expected_entropy),
        ("mutual-information", numerics.mutual_information),
        ("dirichlet-differential-entropy", numerics.differential_entropy),
        ("epkl", numerics.expected_pairwise_divergence),
    ):
        np.testing.assert_allclose(function(log_alpha), expected[name], rtol=1e-9, atol=1e-8, err_msg=name)


@pytest.mark.parametrize("alpha", [(1, 1, 1), (31, 32, 33), (900, 3, 70_000), (100_000, 100_001, 4)])
def test_large_concentrations(alpha):
    # digamma(n) is a harmonic number less a constant, and gamma(n) a factorial: sums without cancellation
    def harmonic(first, last):
        return math.fsum(1 / k for k in range(first, last + 1))

    def log_factorial(n):
        return math.fsum(math.log(k) for k in range(2, n + 1))

    total = sum(alpha)
    entropy = math.fsum([log_factorial(a - 1) for a in alpha]) - log_factorial(total - 1)
    entropy += math.fsum((a - 1) * harmonic(a, total - 1) for a in alpha)
    expected = math.fsum(a / total * harmonic(a + 1, total) for a in alpha)
    log_alpha = torch.tensor([alpha], dtype=torch.float64).log()
    assert float(numerics.differential_entropy(log_alpha)) == pytest.approx(entropy, rel=1e-9)
    assert float(numerics.expected_entropy(log_alpha)) == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("logit", [40.0, 80.0, 120.0, 600.0, 1e6])
def test_huge_concentrations_follow_the_normal_limit(logit):
    # Dir(a, .., a) tends to a normal distribution with covariance (I/C - 1/C^2) / (C a)
    classes = 4
    log_alpha = numerics.concentrations(torch.full((1, classes), logit))
    log_variance = -math.log(classes) * 2 - logit  # of one class, without the constraint
    log_det = (classes - 1) * log_variance - math.log(classes)
    entropy = (classes - 1) / 2 * math.log(2 * math.pi * math.e) + log_det / 2
    assert float(numerics.differential_entropy(log_alpha)) == pytest.approx(entropy, rel=1e-12)
    assert float(numerics.mutual_information(log_alpha)) == pytest.approx(
        (classes - 1) / 2 / classes * math.exp(-logit), rel=1e-9
    )
    assert float(numerics.expected_entropy(log_alpha)) == pytest.approx(math.log(classes), rel=1e-12)


def test_flat_dirichlet():
    log_alpha = torch.zeros(1, 6).double()
    assert float(numerics.differential_entropy(log_alpha)) == pytest.approx(-gammaln(6), rel=1e-14)
    expected = float(sum(Fraction(1, k) for k in range(2, 7)))
    assert float(numerics.expected_entropy(log_alpha)) == pytest.approx(expected, rel=1e-14)
    assert float(numerics.expected_pairwise_divergence(log_alpha)) == pytest.approx(5 / 6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("prior", [0.0, 1.0])
def test_any_logits_get_finite_scores(name, prior):
    logits = [[1e6, -1e6, 0], [-1e6, -1e6, -1e6], [1e4, 1e4, 1e4], [700, 710, -745], [0, 0, 0]]
    scores = create_head(name, prior=prior).score(type(TEST)(logits=np.array(logits, dtype=float)))
    assert (np.abs(scores) < np.finfo(np.float32).max).all()


@pytest.mark.parametrize("name", NAMES)
def test_less_evidence_scores_higher(name):
    logits = np.array([[8.0, 0, 0], [5.0, 0, 0], [2.0, 0, 0], [0.0, 0, 0]])
    assert (np.diff(create_head(name).score(type(TEST)(logits=logits))) > 0).all()
