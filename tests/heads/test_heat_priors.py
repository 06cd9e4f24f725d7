"""Frozen priors of HEAT: energies, gradients and proposals."""

import numpy as np
import pytest
import torch
from draws import generator
from scipy.stats import kstest, multivariate_normal

from featood.heads.energies._priors import SPREADS, ClassifierPrior, GaussianPrior, free_proposals
from featood.numerics.gaussian import whitening


def mixture(seed=0, classes=3, size=4):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(size, size))
    return rng.normal(size=(classes, size)), root @ root.T + np.eye(size), np.array([0.5, 0.3, 0.2])


def gaussian_prior(means, covariance, weights, **options):
    map_ = whitening(torch.from_numpy(means.mean(0)), torch.from_numpy(covariance))
    return GaussianPrior(map_, map_(torch.from_numpy(means)), torch.from_numpy(weights), **options)


def test_gaussian_energy_and_gradient():
    means, covariance, weights = mixture()
    prior = gaussian_prior(means, covariance, weights)
    rows = torch.randn(20, 4, generator=generator(), dtype=torch.float64, requires_grad=True)
    energy = prior.energy(rows)
    (derived,) = torch.autograd.grad(energy.sum(), rows)
    parts = [multivariate_normal(mean, covariance).pdf(rows.detach()) for mean in means]
    density = np.array(parts).T * weights
    np.testing.assert_allclose(energy.detach(), -np.log(density.sum(1)), rtol=1e-10)
    share = density / density.sum(1, keepdims=True)
    slopes = (rows.detach().numpy()[:, None] - means) @ np.linalg.inv(covariance)
    expected = (share[..., None] * slopes).sum(1)
    np.testing.assert_allclose(derived, expected, rtol=1e-8)
    np.testing.assert_allclose(prior.gradient(rows.detach()), expected, rtol=1e-8)


def test_gaussian_gradients_far_from_the_origin():
    means, covariance, weights = mixture()
    rows = torch.round(1024 * torch.randn(20, 4, generator=generator(), dtype=torch.float64)) / 1024
    expected = gaussian_prior(means, covariance, weights).gradient(rows)
    shift = 1024 + 0.25 * np.arange(4)  # float32 holds the shifted rows exactly
    exact = gaussian_prior(means + shift, covariance, weights)
    map_ = exact.whitening._replace(matrix=exact.whitening.matrix.float())
    small = GaussianPrior(map_, exact.means.float(), exact.weights.float())
    found = small.gradient((rows + shift).float())
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_a_class_without_rows_gives_no_nan_gradient():
    means, covariance, _ = mixture()
    prior = gaussian_prior(means, covariance, np.array([0.0, 0.4, 0.6]))
    rows = torch.zeros(5, 4, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(prior.energy(rows).sum(), rows)
    assert bool(torch.isfinite(gradient).all())


def test_proposals_are_samples_of_the_mixture():
    means, covariance, weights = mixture()
    prior = gaussian_prior(means, covariance, weights)
    rows, gradient = prior.propose(torch.zeros(50_000, 4), torch.zeros(50_000, dtype=torch.long), generator())
    mean = weights @ means
    spread = covariance + (weights[:, None] * (means - mean)).T @ (means - mean)
    np.testing.assert_allclose(rows.mean(0), mean, atol=0.05)
    np.testing.assert_allclose(np.cov(rows.T), spread, atol=0.05 * np.abs(spread).max())
    torch.testing.assert_close(gradient(rows[:9]), prior.gradient(rows[:9]))


def test_proposals_between_the_classes():
    means, covariance, weights = mixture()
    prior = gaussian_prior(means, covariance, weights, proposals="between")
    rows, _ = prior.propose(torch.zeros(200_000, 4), torch.zeros(200_000, dtype=torch.long), generator())
    mean = weights @ means
    classes = (weights[:, None] * (means - mean)).T @ (means - mean)
    # (1 - u) a + u b has two thirds of the variance of independent a and b, as E[u^2 + (1 - u)^2] = 2 / 3
    np.testing.assert_allclose(rows.mean(0), mean, atol=0.05)
    np.testing.assert_allclose(np.cov(rows.T), covariance + 2 / 3 * classes, atol=0.1)


def test_wide_proposals_follow_the_batch():
    means, covariance, weights = 1e6 * np.eye(3, 4), np.eye(4), np.array([0.0, 0.5, 0.5])
    prior = gaussian_prior(means, covariance, weights, proposals="wide")
    labels = torch.tensor([0] * 30_000 + [2] * 10_000)
    rows, _ = prior.propose(torch.zeros(len(labels), 4), labels, generator())
    nearest = torch.cdist(rows, torch.from_numpy(means)).argmin(1)
    assert np.bincount(nearest) / 40_000 == pytest.approx([0.75, 0, 0.25], abs=0.02)
    spread = (rows - torch.from_numpy(means)[nearest]).norm(dim=1) / 2  # the mean norm of N(0, I_4) is 1.88
    factor = 100 * float(torch.rand((), generator=_after(prior, labels)))
    for quantile, multiple in zip((0.1, 0.3, 0.5, 0.7, 0.9), SPREADS, strict=True):
        assert float(spread.quantile(quantile)) == pytest.approx(factor * multiple, rel=0.2)


def _after(prior, labels):
    """Return the generator as it is when the factor is drawn."""
    source = generator()
    torch.multinomial(torch.bincount(labels).double(), len(labels), replacement=True, generator=source)
    torch.randn((len(labels), 4), generator=source, dtype=torch.float64)
    return source


def test_simplified_chains_follow_their_own_component():
    means, covariance, weights = mixture()
    prior = gaussian_prior(100 * means, 1e-6 * covariance, weights, simplified=True)
    rows, gradient = prior.propose(torch.zeros(50, 4), torch.zeros(50, dtype=torch.long), generator())
    own = torch.cdist(rows, torch.from_numpy(100 * means)).argmin(1)
    z = torch.randn(50, 4, generator=generator(1), dtype=torch.float64)
    expected = (z.numpy() - 100 * means[own]) @ np.linalg.inv(1e-6 * covariance)
    np.testing.assert_allclose(gradient(z), expected, rtol=1e-6)


def test_classifier_energy():
    weight, bias = torch.randn(3, 4, generator=generator()), torch.randn(3, generator=generator(1))
    prior = ClassifierPrior(weight, bias)
    rows, gradient = prior.propose(torch.zeros(20_000, 4), torch.zeros(20_000, dtype=torch.long), generator())
    assert float(rows.mean()) == pytest.approx(0, abs=0.02) and float(rows.std()) == pytest.approx(
        1, abs=0.02
    )
    odds = np.exp(rows[:9].double() @ weight.double().T + bias.double())
    np.testing.assert_allclose(prior.energy(rows[:9]), -np.log(odds.sum(1)), rtol=1e-4)
    expected = -(odds / odds.sum(1, keepdims=True)) @ weight.double().numpy()
    np.testing.assert_allclose(gradient(rows[:9]), expected, rtol=1e-4, atol=1e-6)


def test_proposals_that_do_not_depend_on_the_prior():
    rows = torch.arange(120_000.0).reshape(-1, 3)
    assert torch.equal(free_proposals("data", rows, generator()), rows)
    normal, uniform = (free_proposals(kind, rows, generator()).numpy() for kind in ("normal", "uniform"))
    assert kstest(normal.ravel(), "norm").pvalue > 0.01
    assert kstest(uniform.ravel(), "uniform", (-2, 4)).pvalue > 0.01
    means, covariance, weights = mixture(size=3)
    prior = gaussian_prior(means, covariance, weights, proposals="uniform")
    found, gradient = prior.propose(rows, torch.zeros(len(rows), dtype=torch.long), generator())
    np.testing.assert_array_equal(found, uniform)
    torch.testing.assert_close(gradient(found[:5].double()), prior.gradient(found[:5].double()))
