import math

import numpy as np
import pytest
import torch
from draws import generator, normal, quadratic
from torch import nn

from featood.energies import VeraSampler, gradient_penalty, vera_loss
from featood.heads import create_head

# ---- VERA -------------------------------------------------------------------------------------------


def linear_sampler(sigma=0.5, posterior=0.4):
    network = nn.Linear(2, 3, bias=False).double()
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[1.0, 0.3], [0.0, 0.5], [0.4, -0.2]]))
    sampler = VeraSampler(network, 2, sigma=(sigma, sigma), posterior=posterior).double()
    covariance = network.weight @ network.weight.T + sigma**2 * torch.eye(3, dtype=torch.float64)
    return sampler, covariance.detach()


def test_generated_samples_and_the_gradient_of_their_entropy():
    sampler, covariance = linear_sampler(posterior=0.8)
    x, h = sampler.sample(50_000, generator())
    np.testing.assert_allclose(np.cov(x.detach().T), covariance, atol=0.02)
    x, h = x.detach()[:40], h[:40]
    found = sampler.entropy_gradient(x, h, 20_000, generator(1))
    expected = x @ torch.linalg.inv(covariance)  # -d log N(0, S) / dx
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0.1)


def test_the_posterior_width_is_fitted():
    sampler, _ = linear_sampler()
    weight = sampler.network.weight.detach()
    exact = torch.eye(2, dtype=torch.float64) + weight.T @ weight / 0.25
    optimizer = torch.optim.Adam([sampler.log_posterior], lr=0.05)
    source = generator(2)
    for step in range(300):
        optimizer.param_groups[0]["lr"] = 0.05 * (1 - step / 300)
        optimizer.zero_grad()
        sampler.posterior_loss(*sampler.sample(500, source), source).backward()
        optimizer.step()
    assert sampler.network.weight.grad is None and sampler.log_sigma.grad is None
    # the optimal factorised Gaussian has the diagonal of the precision matrix
    torch.testing.assert_close(
        sampler.log_posterior.exp().detach(), exact.diagonal() ** -0.5, rtol=0.1, atol=0
    )


def test_sigma_stays_within_its_bounds():
    sampler = VeraSampler(nn.Linear(1, 1), 1)
    assert sampler.sigma.item() == pytest.approx(0.3)
    for value, expected in ((0.0, 0.3), (-9.0, 0.01), (math.log(0.1), 0.1)):
        with torch.no_grad():
            sampler.log_sigma.fill_(value)
        assert sampler.sigma.item() == pytest.approx(expected)


def test_each_part_of_the_vera_loss_has_gradients_for_its_parameters():
    sampler, _ = linear_sampler()
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()

    def energy(x):
        return net(x).squeeze(1)

    rows = normal(30, 3, seed=8)
    found = vera_loss(energy, sampler, rows, generator(4), entropy=0.7, penalty=0.3, l2=0.2, draws=6)
    found["loss"].backward()

    source = generator(4)
    x, h = sampler.sample(30, source)
    c = sampler.entropy_gradient(x.detach(), h, 6, source)
    low, high = energy(rows), energy(x.detach())
    squares = 0.2 * ((low**2).mean() + (high**2).mean())
    low, high = low.mean(), high.mean()
    assert found["positive"].item() == pytest.approx(low.item())
    assert found["negative"].item() == pytest.approx(high.item())
    of_energy = low - high + squares + 0.3 * gradient_penalty(energy, rows)
    parameters = list(net.parameters())
    for mine, theirs in zip(
        parameters, torch.autograd.grad(of_energy, parameters, allow_unused=True), strict=True
    ):
        torch.testing.assert_close(mine.grad, torch.zeros_like(mine) if theirs is None else theirs)
    of_generator = energy(x).mean() - 0.7 * (c * x).sum(1).mean()
    for mine in (sampler.network.weight, sampler.log_sigma):
        torch.testing.assert_close(mine.grad, torch.autograd.grad(of_generator, mine, retain_graph=True)[0])
    bound = sampler.posterior_loss(x, h, source)
    torch.testing.assert_close(
        sampler.log_posterior.grad, torch.autograd.grad(bound, sampler.log_posterior)[0]
    )


def test_gradient_penalty():
    matrix, shift, rows = (
        torch.diag(torch.tensor([1.0, 2.0])),
        torch.zeros(2),
        torch.tensor([[3.0, 4.0], [0, 1]]),
    )
    found = gradient_penalty(quadratic(matrix, shift), rows)
    assert float(found.detach()) == pytest.approx(0.5 * ((9 + 64) + 4) / 2)


def test_a_generator_with_dead_units_has_a_finite_loss():
    rows = normal(50, 3).float()
    head = create_head("vera", base="none", width=1, depth=5, noise_size=0)
    model = head.build(3, 1, generator())
    assert model.sampler.size == 3
    with torch.no_grad():
        for layer in [one for one in model.sampler.network if isinstance(one, nn.Linear)][:-1]:
            layer.bias.fill_(-100.0)
    head.initialize(model, rows, torch.zeros(50))
    assert all(bool(torch.isfinite(value).all()) for value in model.sampler.state_dict().values())


def test_the_weight_of_the_squares_is_divided_by_the_number_of_features():
    rows, labels = normal(40, 4).float(), torch.zeros(40, dtype=torch.long)

    def loss(**options):
        head = create_head("vera", base="none", width=8, depth=1, **options)
        model = head.build(4, 1, generator())
        return head.losses(model, rows, labels, generator(1))["loss"].item()

    squares = loss(l2=1.0, l2_per_feature=False) - loss(l2=0.0)
    assert squares > 0 and loss(l2=2.0) - loss(l2=0.0) == pytest.approx(squares / 2, rel=1e-3)
