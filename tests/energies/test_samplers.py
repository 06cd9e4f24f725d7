import itertools
import math

import numpy as np
import pytest
import torch
from draws import generator
from torch import nn

from featood.energies import gibbs_with_gradients, svgd

PLACES, TOKENS = 3, 4
STATES = np.array(list(itertools.product(range(TOKENS), repeat=PLACES)))


# ---- Stein variational gradient descent ---------------------------------------------------------------


def naive_step(points, slope, step_size):
    n = len(points)
    width = np.median([math.dist(points[i], points[j]) for i in range(n) for j in range(i)]) ** 2 / math.log(
        n
    )
    moved = points.copy()
    for i in range(n):
        for j in range(n):
            kernel = math.exp(-(math.dist(points[i], points[j]) ** 2) / width)
            pull = -kernel * slope(points[j])
            # derivative of the kernel with respect to its first argument
            push = -2 / width * (points[j] - points[i]) * kernel
            moved[i] += step_size / n * (pull + push)
    return moved


@pytest.mark.parametrize("shape", [(7, 3), (6, 1, 2, 2)])  # an odd number of pairs has one median
def test_svgd_by_a_double_loop(shape):
    start = torch.randn(shape, generator=generator(), dtype=torch.float64)
    before = start.clone()
    found = svgd(lambda x: (x**4 / 4 + x).flatten(1).sum(1), start, steps=3, step_size=0.3)
    points = before.flatten(1).numpy()
    for _ in range(3):
        points = naive_step(points, lambda x: x**3 + 1, 0.3)
    np.testing.assert_allclose(found.flatten(1), points, rtol=1e-10)
    assert torch.equal(start, before) and not found.requires_grad


def test_svgd_with_a_known_gradient_and_a_projection():
    start = torch.randn(7, 3, generator=generator(), dtype=torch.float64)
    found = svgd(
        lambda x: (x**4 / 4).sum(1), start, steps=3, step_size=0.3, known=torch.ones_like, project=torch.relu
    )
    points = start.numpy()
    for _ in range(3):
        points = np.maximum(naive_step(points, lambda x: x**3 + 1, 0.3), 0)
    np.testing.assert_allclose(found, points, rtol=1e-10)


def test_svgd_particles_have_the_moments_of_a_gaussian():
    center, spread = torch.tensor([3.0, -1.0]), torch.tensor([0.5, 1.5])
    found = svgd(
        lambda x: 0.5 * ((x - center) / spread).square().sum(1),
        torch.randn(200, 2, generator=generator()),
        steps=500,
        step_size=0.5,
    )
    torch.testing.assert_close(found.mean(0), center, rtol=0, atol=0.05)
    torch.testing.assert_close(found.std(0), spread, rtol=0.1, atol=0)


def test_svgd_of_one_particle_is_gradient_descent():
    found = svgd(lambda x: x.square().sum(1), torch.tensor([[2.0, -4.0]]), steps=1, step_size=0.25)
    assert found.tolist() == [[1.0, -2.0]]


def test_svgd_of_equal_particles_is_finite():
    found = svgd(lambda x: x.square().sum(1), torch.ones(4, 2), steps=2, step_size=0.25)
    torch.testing.assert_close(found, torch.full((4, 2), 0.25))


# ---- Gibbs with gradients ---------------------------------------------------------------------------


def table_energy(seed=0):
    """Look energies up in a table; with relaxed inputs it is multilinear, so its gradient is informative."""
    table = torch.randn((TOKENS,) * PLACES, generator=generator(seed))
    return lambda x: torch.einsum("bi,bj,bk,ijk->b", x[:, 0], x[:, 1], x[:, 2], table)


def network_energy(seed=0):
    """Return the energy of a network, whose gradient estimates changes only roughly."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(PLACES * TOKENS, 16), nn.Tanh(), nn.Linear(16, 1))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator(seed)))
    return lambda x: 0.5 * net(x).squeeze(1)


def enumerated(energy):
    one_hot = torch.eye(TOKENS)[torch.from_numpy(STATES)].requires_grad_(True)
    levels = energy(one_hot)
    slopes = torch.autograd.grad(levels.sum(), one_hot)[0].double().numpy()
    levels = levels.detach().double().numpy()
    return levels, slopes


def transitions(energy):
    """Return the 64 by 64 transition matrix, computed for each pair of states by the formulas of the paper."""
    levels, slopes = enumerated(energy)

    def proposal(state):
        weights = {}
        for place, token in itertools.product(range(PLACES), range(TOKENS)):
            old = STATES[state][place]
            if token != old:
                weights[place, token] = math.exp(
                    (slopes[state, place, old] - slopes[state, place, token]) / 2
                )
        total = sum(weights.values())
        return {change: weight / total for change, weight in weights.items()}

    number = {tuple(state): index for index, state in enumerate(STATES)}
    matrix = np.zeros((len(STATES), len(STATES)))
    for here in range(len(STATES)):
        for (place, token), chance in proposal(here).items():
            changed = STATES[here].copy()
            changed[place] = token
            there = number[tuple(changed)]
            reverse = proposal(there)[place, STATES[here][place]]
            matrix[here, there] = chance * min(1, math.exp(levels[here] - levels[there]) * reverse / chance)
        matrix[here, here] = 1 - matrix[here].sum()
    return matrix, np.exp(-levels) / np.exp(-levels).sum()


def numbers(tokens):
    return (tokens.numpy() * TOKENS ** np.arange(PLACES)[::-1]).sum(1)


@pytest.mark.parametrize("make", [table_energy, network_energy])
def test_gibbs_transitions_follow_the_formulas_and_satisfy_detailed_balance(make):
    energy, copies = make(), 4_000
    matrix, density = transitions(energy)
    flow = density[:, None] * matrix
    np.testing.assert_allclose(flow, flow.T, rtol=1e-6, atol=1e-12)  # float32 energies, float64 formulas
    start = torch.from_numpy(STATES).repeat_interleave(copies, 0)
    moved = numbers(gibbs_with_gradients(energy, start, TOKENS, steps=1, generator=generator(1)))
    found = np.zeros_like(matrix)
    np.add.at(found, (np.repeat(np.arange(len(STATES)), copies), moved), 1 / copies)
    assert (found[matrix == 0] == 0).all(), "a step changes one token"
    error = np.sqrt(np.maximum(matrix * (1 - matrix), 1e-9) / copies)
    assert (np.abs(found - matrix) / error).max() < 5


@pytest.mark.parametrize("make", [table_energy, network_energy])
def test_gibbs_chains_have_the_distribution_of_the_energy(make):
    energy, chains = make(), 10_000
    levels, _ = enumerated(energy)
    expected = chains * np.exp(-levels) / np.exp(-levels).sum()
    start = torch.zeros(chains, PLACES, dtype=torch.long)
    tokens = gibbs_with_gradients(energy, start, TOKENS, steps=60, generator=generator(2))
    found = np.bincount(numbers(tokens), minlength=len(STATES))
    chi_square = ((found - expected) ** 2 / expected).sum()
    assert chi_square < 63 + 4 * math.sqrt(2 * 63)
    assert not torch.equal(tokens, start) and not start.any()


def test_gibbs_is_reproducible_and_returns_the_start_without_steps():
    start = torch.from_numpy(STATES)

    def run(seed, steps=3):
        return gibbs_with_gradients(table_energy(), start, TOKENS, steps=steps, generator=generator(seed))

    assert torch.equal(run(5), run(5)) and not torch.equal(run(5), run(6))
    assert torch.equal(run(0, 0), start)


def test_gibbs_never_enters_a_state_of_probability_zero():
    def energy(x):
        return torch.where(x[:, 0, 1] > 0, torch.inf, x.sum((1, 2)))

    start = torch.from_numpy(STATES[STATES[:, 0] != 1])
    tokens = gibbs_with_gradients(energy, start, TOKENS, steps=20, generator=generator())
    assert (tokens[:, 0] != 1).all() and not torch.equal(tokens, start)
