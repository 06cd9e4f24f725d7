import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.special import digamma, gammaln
from torch.distributions import Dirichlet, kl_divergence

from featood.energies.dirichlet import (
    bayesian_loss,
    evidence_divergence,
    prior_network_loss,
    target_concentrations,
    uncertain_cross_entropy,
)
from featood.numerics import dirichlet as numerics

ROWS = torch.Generator().manual_seed(0)
LOGITS = 3 * torch.randn(40, 5, generator=ROWS, dtype=torch.float64)
LABELS = torch.arange(40) % 5
FAR = torch.tensor(
    [[100.0, -100, 0], [-100, -100, -100], [100, 100, 100], [100, 99, 0], [0, 0, 100]], dtype=torch.float64
)


def divergence(alpha, beta):
    return kl_divergence(Dirichlet(alpha), Dirichlet(beta))


@pytest.mark.parametrize("spread", [0.1, 1.0, 4.0])
def test_divergence_against_torch(spread):
    generator = torch.Generator().manual_seed(1)
    alpha, beta = (
        torch.empty(300, 4, dtype=torch.float64).log_normal_(0, spread, generator=generator) for _ in range(2)
    )
    found = numerics.divergence(alpha.log(), beta.log())
    torch.testing.assert_close(found, divergence(alpha, beta), rtol=1e-9, atol=1e-12)
    gradients = []
    for loss in (numerics.divergence, lambda a, b: divergence(a.exp(), b.exp())):
        logs = alpha.log().requires_grad_(True), beta.log().requires_grad_(True)
        gradients.append(torch.cat(torch.autograd.grad(loss(*logs).sum(), logs)))
    torch.testing.assert_close(*gradients, rtol=1e-8, atol=1e-9)


@settings(max_examples=150)
@given(st.lists(st.tuples(*[st.floats(-60, 100, allow_subnormal=False)] * 2), min_size=2, max_size=5))
@example([(-38.0, 0.0), (-11.89, 53.0)])  # the second class has almost all of both distributions
@example([(0.8368, 98.6), (-36.43, -40.0)])
def test_divergence_is_accurate_despite_cancellation(pairs):
    mp = pytest.importorskip("mpmath")
    with mp.workdps(150):
        alpha, beta = ([mp.exp(mp.mpf(pair[k])) for pair in pairs] for k in (0, 1))
        total = mp.fsum(alpha)
        exact = mp.loggamma(total) - mp.loggamma(mp.fsum(beta))
        for a, b in zip(alpha, beta, strict=True):
            exact += mp.loggamma(b) - mp.loggamma(a) + (a - b) * (mp.psi(0, a) - mp.psi(0, total))
        exact = float(exact)
    log_alpha, log_beta = torch.tensor(pairs, dtype=torch.float64).T[:, None]
    # between equal means, the square of the rounding of their logarithms remains
    slack = 1e-12 + max(1e-28 * math.exp(b) for _, b in pairs)
    assert float(numerics.divergence(log_alpha, log_beta)) == pytest.approx(exact, rel=1e-8, abs=slack)


def test_divergence_of_equal_distributions_is_zero():
    for log_alpha in (LOGITS, FAR):
        assert float(numerics.divergence(log_alpha, log_alpha).abs().max()) == 0


def test_divergence_of_one_class_is_zero_with_zero_gradient():
    logs = torch.tensor([[3.0], [-40.0]], dtype=torch.float64, requires_grad=True)
    found = numerics.divergence(logs, -logs.detach())
    (gradient,) = torch.autograd.grad(found.sum(), logs)
    assert float(found.detach().abs().max()) == 0 and float(gradient.abs().max()) == 0


def test_digamma_of_logarithms():
    x = np.geomspace(1e-20, 1e20, 400)
    found = numerics.digamma(torch.from_numpy(np.log(x)))
    np.testing.assert_allclose(found, digamma(x), rtol=1e-11, atol=1e-12)


def test_uncertain_cross_entropy():
    alpha = np.random.default_rng(0).gamma(2.0, 5.0, (20, 4)) + 1
    labels = torch.arange(20) % 4
    expected = digamma(alpha.sum(1)) - digamma(alpha[np.arange(20), labels])
    found = uncertain_cross_entropy(torch.from_numpy(np.log(alpha)), labels)
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    # the expectation of -log p_y over the Dirichlet distribution
    draws = np.random.default_rng(1).dirichlet(alpha[0], 200_000)
    assert float(found[0]) == pytest.approx(-np.log(draws[:, 0]).mean(), abs=0.01)


def test_uncertain_cross_entropy_by_hand():
    # psi(4) - psi(1) = 1 + 1/2 + 1/3, psi(4) - psi(3) = 1/3
    log_alpha = torch.tensor([[1.0, 3.0]], dtype=torch.float64).log().expand(2, 2)
    found = uncertain_cross_entropy(log_alpha, torch.tensor([0, 1]))
    torch.testing.assert_close(found, torch.tensor([11 / 6, 1 / 3], dtype=torch.float64))


def test_uncertain_cross_entropy_of_evidence_beyond_the_range_of_floats():
    log_alpha = torch.tensor([[2000.0, 1990.0, 0.0]], dtype=torch.float64, requires_grad=True)
    loss = uncertain_cross_entropy(log_alpha, torch.tensor([1]))
    assert loss.item() == pytest.approx(10 + math.log1p(math.exp(-10)))
    (gradient,) = torch.autograd.grad(loss.sum(), log_alpha)
    assert bool(torch.isfinite(gradient).all())


def test_the_bayesian_loss():
    alpha, y = LOGITS.exp().numpy() + 1, LABELS.numpy()
    total = alpha.sum(1)
    errors = digamma(total) - digamma(alpha[np.arange(40), y])
    entropies = gammaln(alpha).sum(1) - gammaln(total) + (total - 5) * digamma(total)
    entropies -= ((alpha - 1) * digamma(alpha)).sum(1)
    found = bayesian_loss(torch.from_numpy(alpha).log(), LABELS, entropy=0.3)
    assert float(found["loss"]) == pytest.approx((errors - 0.3 * entropies).mean(), rel=1e-10)
    assert float(found["uce"]) == pytest.approx(errors.mean(), rel=1e-10)
    assert float(found["entropy"]) == pytest.approx(entropies.mean(), rel=1e-9)


def test_targets():
    found = target_concentrations(torch.tensor([1, -1]), 3).exp()
    torch.testing.assert_close(found, torch.tensor([[1.0, 101, 1], [1, 1, 1]], dtype=torch.float64))


@pytest.mark.parametrize("direction", ["reverse", "forward"])
@pytest.mark.parametrize("prior", [0.0, 1.0])
def test_the_loss_of_prior_networks(direction, prior):
    labels = torch.where(torch.arange(40) < 30, LABELS, -1)
    sums = {True: [], False: []}
    for logits, label in zip(LOGITS, labels.tolist(), strict=True):
        found, wanted = logits.exp() + prior, torch.ones(5, dtype=torch.float64)
        if label >= 0:
            wanted[label] = 51
        pair = (found, wanted) if direction == "reverse" else (wanted, found)
        sums[label >= 0].append(float(divergence(*pair)))
    inlier, outlier = np.mean(sums[True]), np.mean(sums[False])
    found = prior_network_loss(LOGITS, labels, direction=direction, target=50.0, prior=prior, outliers=0.7)
    assert float(found["loss"]) == pytest.approx((inlier + 0.7 * outlier) / 50, rel=1e-9)
    assert float(found["inlier"]) == pytest.approx(inlier) and float(found["outlier"]) == pytest.approx(
        outlier
    )
    assert float(prior_network_loss(LOGITS[:30], labels[:30], direction=direction)["outlier"]) == 0


def test_the_loss_of_prior_networks_vanishes_at_the_target():
    logits = torch.tensor([[math.log(100), -90], [-90, -90]], dtype=torch.float64)
    for direction in ("reverse", "forward"):
        loss = prior_network_loss(logits, torch.tensor([0, -1]), direction=direction)["loss"]
        assert float(loss) == pytest.approx(0, abs=1e-12)


def test_evidence_divergence():
    for target in (0.0, 30.0):
        expected = []
        for logits, label in zip(LOGITS, LABELS.tolist(), strict=True):
            aim = torch.ones(5, dtype=torch.float64)
            aim[label] = target or logits.exp().sum()
            expected.append(divergence(logits.exp() + 1, aim))
        found = evidence_divergence(LOGITS, LABELS, target)
        torch.testing.assert_close(found, torch.stack(expected), rtol=1e-8, atol=1e-10)


def test_the_entropy_of_samples_is_their_divergence_from_the_uniform_distribution():
    # so networks with uniform output on samples need one weight, not two
    log_alpha = numerics.concentrations(LOGITS, prior=1.0)
    flat = numerics.divergence(log_alpha, torch.zeros_like(log_alpha))
    torch.testing.assert_close(flat, -numerics.differential_entropy(log_alpha) - math.lgamma(5))


@pytest.mark.parametrize(
    "loss",
    [
        lambda logits, labels: prior_network_loss(logits, labels)["loss"],
        lambda logits, labels: prior_network_loss(logits, labels, prior=0.0)["loss"],
        lambda logits, labels: prior_network_loss(logits, labels, direction="forward")["loss"],
        lambda logits, labels: prior_network_loss(logits, -1 - labels)["loss"],
        lambda logits, labels: bayesian_loss(numerics.concentrations(logits, 1.0), labels)["loss"],
        lambda logits, labels: bayesian_loss(numerics.concentrations(logits), labels)["loss"],
        lambda logits, labels: evidence_divergence(logits, labels).sum(),
    ],
)
@pytest.mark.parametrize("label", [0, 1, 2])
def test_gradients_are_finite_for_extreme_logits(loss, label):
    logits = FAR.clone().requires_grad_(True)
    value = loss(logits, torch.full((len(FAR),), label))
    (gradient,) = torch.autograd.grad(value, logits)
    assert math.isfinite(value) and bool(torch.isfinite(gradient).all())
