import math

import numpy as np
import pytest
import torch
from draws import generator, normal, quadratic
from torch import nn

from featood.energies import (
    GaussianNoise,
    UniformNoise,
    class_energy,
    classification_loss,
    conditional_noise_contrastive,
    free_energy,
    joint_loss,
    noise_contrastive,
    perturb,
    prediction_entropy,
    sliced_score_matching,
    warn_if_piecewise_linear,
)
from featood.errors import DataError

# ---- energies of classifiers ------------------------------------------------------------------------


def test_energies_of_logits():
    logits, labels = normal(6, 4), torch.tensor([0, 3, 2, 1, 0, 2])
    probabilities = np.exp(logits.numpy()) / np.exp(logits.numpy()).sum(1, keepdims=True)
    identity = nn.Identity()
    np.testing.assert_allclose(free_energy(identity)(logits), -np.log(np.exp(logits.numpy()).sum(1)))
    np.testing.assert_allclose(
        class_energy(identity, labels)(logits), [-logits[row, label] for row, label in enumerate(labels)]
    )
    np.testing.assert_allclose(
        prediction_entropy(identity)(logits), -(probabilities * np.log(probabilities)).sum(1)
    )
    assert bool(torch.isfinite(prediction_entropy(identity)(1e4 * logits)).all())


@pytest.mark.parametrize("smoothing, entropy", [(0.0, 0.0), (0.1, 0.3)])
def test_joint_loss_by_a_loop(smoothing, entropy):
    rows, samples, labels = normal(5, 3), normal(7, 3, seed=1), torch.tensor([0, 1, 2, 1, 0])
    found = joint_loss(
        nn.Identity(),
        rows,
        labels,
        samples,
        density=0.7,
        classification=2.0,
        l2=0.1,
        smoothing=smoothing,
        entropy=entropy,
    )
    named = 0.0
    for row, label in zip(rows.numpy(), labels.tolist(), strict=True):
        p = np.exp(row) / np.exp(row).sum()
        wanted = (1 - smoothing) * np.eye(3)[label] + smoothing / 3
        named += (-(wanted * np.log(p)).sum() + entropy * (p * np.log(p)).sum()) / 5
    low, high = (-np.log(np.exp(x.numpy()).sum(1)) for x in (rows, samples))
    density = low.mean() - high.mean() + 0.1 * ((low**2).mean() + (high**2).mean())
    assert float(found["classification"]) == pytest.approx(named)
    assert float(found["loss"]) == pytest.approx(0.7 * density + 2 * named)
    alone = classification_loss(nn.Identity(), rows, labels, smoothing=smoothing, entropy=entropy)
    assert float(alone) == pytest.approx(named)


# ---- sliced score matching --------------------------------------------------------------------------


@pytest.mark.parametrize("projection", ["gaussian", "rademacher", "sphere"])
@pytest.mark.parametrize("variance_reduced", [True, False])
@pytest.mark.parametrize("shape", [(4,), (2, 2)])
def test_sliced_score_matching_has_the_expectation_of_score_matching(projection, variance_reduced, shape):
    root = normal(4, 4)
    matrix, shift = root @ root.T, normal(4, seed=1)
    rows = normal(3, *shape, seed=2)
    exact = 0.0
    for row in rows.flatten(1):
        exact += float(0.5 * (matrix @ row + shift).square().sum() - matrix.trace()) / 3
    found = sliced_score_matching(
        quadratic(matrix, shift),
        rows,
        generator(3),
        projections=100_000,
        projection=projection,
        variance_reduced=variance_reduced,
    )
    scale = float((matrix @ rows.flatten(1).T).square().sum(0).max() + matrix.trace())
    assert found.item() == pytest.approx(exact, abs=0.01 * scale)


def test_sliced_score_matching_of_a_network_by_its_hessian():
    net = nn.Sequential(nn.Linear(3, 5), nn.Softplus(), nn.Linear(5, 1)).double()

    def energy(x):
        return net(x).squeeze(1)

    rows = normal(4, 3)
    v = normal(4, 3, seed=9)
    for reduced in (True, False):
        found = sliced_score_matching(energy, rows, generator(9), variance_reduced=reduced)
        expected = 0.0
        for x, direction in zip(rows, v, strict=True):
            hessian = torch.autograd.functional.hessian(lambda z: energy(z[None])[0], x)
            slope = torch.autograd.functional.jacobian(lambda z: energy(z[None])[0], x)
            first = slope.square().sum() if reduced else (slope @ direction) ** 2
            expected += float(0.5 * first - direction @ hessian @ direction) / 4
        assert float(found.detach()) == pytest.approx(expected)
    found.backward()
    assert all(parameter.grad is not None for parameter in list(net.parameters())[:-1])


def test_sliced_score_matching_finds_the_precision_of_a_gaussian():
    rows = normal(4000, 2) @ torch.tensor([[1.0, 0.0], [0.6, 0.5]], dtype=torch.float64)
    root = torch.eye(2, dtype=torch.float64).requires_grad_()
    optimizer = torch.optim.Adam([root], lr=0.05)
    source = generator(1)
    for step in range(400):
        optimizer.param_groups[0]["lr"] = 0.05 * (1 - step / 400)
        optimizer.zero_grad()
        energy = quadratic(root @ root.T, torch.zeros(2, dtype=torch.float64))
        sliced_score_matching(energy, rows, source, projection="rademacher").backward()
        optimizer.step()
    precision = torch.linalg.inv(rows.T @ rows / len(rows))
    torch.testing.assert_close((root @ root.T).detach(), precision, rtol=0.05, atol=0.1)


def test_piecewise_linear_networks_give_a_warning(recwarn):
    with pytest.warns(UserWarning, match="LeakyReLU are zero"):
        warn_if_piecewise_linear(nn.Sequential(nn.Linear(2, 2), nn.LeakyReLU()))
    warn_if_piecewise_linear(nn.Sequential(nn.Linear(2, 2), nn.SiLU()))
    assert not recwarn.list


# ---- noise-contrastive estimation -------------------------------------------------------------------


def test_gaussian_noise():
    from scipy.stats import multivariate_normal

    rows = (normal(500, 3) @ normal(3, 3, seed=1) + 2).float()
    noise = GaussianNoise.of(rows)
    covariance = np.cov(rows.double().T, bias=True)
    ridged = covariance + 1e-3 * np.trace(covariance) / 3 * np.eye(3)
    expected = multivariate_normal(rows.double().mean(0), ridged).logpdf(rows[:9])
    np.testing.assert_allclose(noise.log_density(rows[:9]), expected, rtol=1e-5)
    draws = noise.sample(100_000, generator(2))
    assert draws.dtype == torch.float32
    np.testing.assert_allclose(np.cov(draws.T), ridged, atol=0.02 * np.abs(ridged).max())
    np.testing.assert_allclose(draws.mean(0), rows.mean(0), atol=0.03)
    with pytest.raises(DataError, match="identical"):
        GaussianNoise.of(torch.ones(4, 2))


def test_uniform_noise():
    rows = torch.tensor([[0.0, 5.0, 1.0], [2.0, 9.0, 1.0]])
    noise = UniformNoise.of(rows)
    assert noise.log_density(rows).tolist() == pytest.approx([-math.log(2 * 4 * 1e-3)] * 2, rel=1e-4)
    draws = noise.sample(2000, generator())
    assert bool(((draws >= noise.low) & (draws <= noise.high)).all())
    assert draws.mean(0).tolist() == pytest.approx([1, 7, 1], abs=0.1)


def test_noise_contrastive_loss_by_a_loop():
    rows = normal(200, 2).float()
    noise = GaussianNoise.of(normal(50, 2, seed=5))

    def energy(x):
        return x.square().sum(1) - 1

    found = noise_contrastive(energy, rows, noise, generator(3))
    draws, total, right = noise.sample(200, generator(3)), 0.0, 0
    for is_data, values in ((1, rows), (0, draws)):
        for row in values:
            margin = float(-energy(row[None]) - noise.log_density(row[None]))
            p = 1 / (1 + math.exp(-margin))
            total -= math.log(p if is_data else 1 - p) / 200
            right += (p > 0.5) == is_data
    assert float(found["loss"]) == pytest.approx(total, rel=1e-5)
    assert float(found["accuracy"]) == pytest.approx(right / 400)


def test_noise_contrastive_estimation_finds_the_constant():
    rows = normal(20_000, 1).float() * 0.5
    noise = GaussianNoise.of(normal(20_000, 1, seed=1))
    curvature, constant = torch.tensor(1.0, requires_grad=True), torch.tensor(0.0, requires_grad=True)
    optimizer = torch.optim.Adam([curvature, constant], lr=0.1)
    source = generator(2)
    for step in range(500):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / 500)
        optimizer.zero_grad()
        noise_contrastive(lambda x: 0.5 * curvature * x.square().sum(1) + constant, rows, noise, source)[
            "loss"
        ].backward()
        optimizer.step()
    assert curvature.item() == pytest.approx(4, rel=0.05)
    assert constant.item() == pytest.approx(0.5 * math.log(2 * math.pi * 0.25), abs=0.03)


def test_noise_contrastive_losses_do_not_overflow():
    for loss in (
        noise_contrastive(
            lambda x: 1e6 * x.sum(1), torch.ones(3, 2), GaussianNoise.of(normal(9, 2)), generator()
        ),
        conditional_noise_contrastive(lambda x: 1e6 * x.sum(1), torch.ones(3, 2), generator()),
    ):
        assert bool(torch.isfinite(loss["loss"]))


def test_conditional_noise_contrastive_loss_by_a_loop():
    rows = normal(6, 1, 2)
    found = conditional_noise_contrastive(
        lambda x: x.flatten(1).square().sum(1), rows, generator(4), spread=0.5, size_penalty=0.2
    )
    draws = normal(6, 1, 2, seed=4)
    total, right = 0.0, 0
    for row, draw in zip(rows, draws, strict=True):
        low, high = float((row**2).sum()), float(((row + 0.5 * draw) ** 2).sum())
        total += (math.log(1 + math.exp(low - high)) + 0.2 * abs(low)) / 6
        right += low < high
    assert float(found["loss"]) == pytest.approx(total)
    assert float(found["accuracy"]) == pytest.approx(right / 6)


def test_conditional_noise_contrastive_loss_of_several_draws_is_their_mean():
    rows = normal(5, 3)

    def energy(x):
        return x.square().sum(1)

    found = conditional_noise_contrastive(energy, rows, generator(4), spread=0.2, widest=2.0, draws=3)
    noisy = perturb(rows.repeat(3, 1), generator(4), spread=0.2, widest=2.0)
    expected = [
        math.log1p(math.exp(float(energy(rows[None, row]) - energy(noisy[None, 5 * draw + row]))))
        for draw in range(3)
        for row in range(5)
    ]
    assert float(found["loss"]) == pytest.approx(np.mean(expected))


def test_perturbations_have_the_requested_sizes():
    rows = torch.full((20_000, 2, 5), 3.0)
    one = perturb(rows, generator(), spread=0.2) - 3
    assert float(one.std()) == pytest.approx(0.2, rel=0.02)
    sizes = (
        (perturb(rows, generator(), spread=0.1, widest=10.0) - 3).flatten(1).square().mean(1).sqrt().log10()
    )
    assert float(sizes.quantile(0.02)) == pytest.approx(-1, abs=0.1)
    assert float(sizes.quantile(0.98)) == pytest.approx(1, abs=0.1)
    assert float(sizes.quantile(0.5)) == pytest.approx(0, abs=0.05)
    assert torch.equal(perturb(rows, generator(), spread=0.2, widest=0.1) - 3, one), (
        "widest is ignored if below spread"
    )


# ---- VERA -------------------------------------------------------------------------------------------
