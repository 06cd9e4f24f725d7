import math
import warnings

import numpy as np
import pytest
import torch
from draws import generator

from featood.energies import NormalStarts, ReplayBuffer, UniformStarts

# ---- replay buffer ----------------------------------------------------------------------------------


def test_initial_states_are_uniform_in_equal_blocks():
    buffer = ReplayBuffer(UniformStarts((2, 3), 3, 2.0), 1000, generator=generator())
    assert buffer.samples.shape == (999, 2, 3) and buffer.block == 333
    assert -2 < float(buffer.samples.min()) < -1.98 and 1.98 < float(buffer.samples.max()) < 2
    assert float(buffer.samples.std()) == pytest.approx(2 / math.sqrt(3), rel=0.03)
    assert ReplayBuffer(UniformStarts((1,), 5), 2, generator=generator()).samples.shape == (5, 1)


def test_chains_continue_from_their_states():
    buffer = ReplayBuffer(UniformStarts((1,)), 6, generator=generator(), restart=0.0)
    before = buffer.samples.clone()
    chains, start = buffer.draw(4, generator(1))
    assert torch.equal(start, before[chains])
    buffer.put(torch.tensor([1, 4, 1]), torch.tensor([[10.0], [20.0], [30.0]]))
    expected = before.clone()
    expected[1], expected[4] = 30.0, 20.0
    assert torch.equal(buffer.samples, expected), "the last of two states is stored"
    assert "samples" in buffer.state_dict()


def test_sampling_moves_the_chains_it_drew_by_langevin_steps():
    buffer = ReplayBuffer(UniformStarts((2,)), 50, generator=generator(), restart=0.0)
    before, source = buffer.samples.clone(), generator(7)
    found = buffer.sample(
        lambda x: x.square().sum(1), 5, steps=2, step_size=0.1, noise=0.5, generator=generator(7)
    )
    chains, x = buffer.draw(5, source)
    x = before[chains]
    for _ in range(2):
        x = x - 0.1 * 2 * x - 0.5 * torch.randn(5, 2, generator=source)
    torch.testing.assert_close(found, x)
    for chain in range(50):
        rows = (chains == chain).nonzero().flatten()
        torch.testing.assert_close(buffer.samples[chain], x[rows[-1]] if len(rows) else before[chain])


def test_labels_draw_from_their_blocks():
    buffer = ReplayBuffer(UniformStarts((1,), 4), 40, generator=generator())
    labels = torch.arange(4).repeat(500)
    chains, _ = buffer.draw(2000, generator(1), labels)
    assert torch.equal(chains // 10, labels) and len(set(chains.tolist())) == 40
    free, _ = buffer.draw(2000, generator(1))
    assert len(set(free.tolist())) == 40


def test_some_chains_are_reinitialised():
    buffer = ReplayBuffer(UniformStarts((1,)), 10, generator=generator(), restart=0.3)
    buffer.samples += 100
    _, start = buffer.draw(20_000, generator(1))
    fresh = start.abs() < 1
    assert float(fresh.double().mean()) == pytest.approx(0.3, abs=0.01)
    assert bool((fresh | (start > 98)).all())
    assert float(start[fresh].std()) == pytest.approx(1 / math.sqrt(3), rel=0.03)


def test_chains_that_diverge_are_reinitialised():
    def energy(x):  # beyond 1/2, its gradient moves a chain out of the range of floats
        return torch.where(x > 0.5, 1e30 * x**4, 0 * x).sum(1)

    def run(buffer, source, **limits):
        return buffer.sample(energy, 40, steps=3, step_size=1e20, noise=0.0, generator=source, **limits)

    buffer = ReplayBuffer(UniformStarts((1,)), 40, generator=generator(), restart=0.0)
    before, source = buffer.samples.clone(), generator(1)
    with pytest.warns(UserWarning, match="diverged"):
        found = run(buffer, source)
    chains, _ = buffer.draw(40, generator(1))
    lost = before[chains, 0] > 0.5
    assert 0 < int(lost.sum()) == int(buffer.restarted) < 40
    assert torch.equal(found[~lost], before[chains][~lost]), "the others do not change"
    assert bool((found.abs() <= 1).all()) and bool(torch.isfinite(buffer.samples).all())
    assert bool((found[lost] != before[chains][lost]).all())
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # one warning is enough
        run(buffer, source)
        again = ReplayBuffer(UniformStarts((1,)), 40, generator=generator(), restart=0.0)
        run(again, generator(1), gradient_limit=1e-21, bounds=(-1.0, 0.6))
    assert int(again.restarted) == 0
    assert int(buffer.state_dict()["restarted"]) == int(buffer.restarted) >= int(lost.sum())


def test_chains_of_infinite_energy_are_reinitialised():
    buffer = ReplayBuffer(UniformStarts((1,)), 200, generator=generator(), restart=0.0)
    with pytest.warns(UserWarning, match="diverged"):
        found = buffer.sample(
            lambda x: torch.where(x < 0, torch.inf, 0 * x).sum(1),
            400,
            steps=1,
            step_size=1.0,
            noise=0.0,
            generator=generator(1),
        )
    assert bool(torch.isfinite(found).all()) and 0.15 < float((found < 0).double().mean()) < 0.35


# ---- normal initial states --------------------------------------------------------------------------


def test_normal_states_have_mean_and_covariance_of_their_class():
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(3, 4, 4)) / 4
    labels = rng.integers(0, 2, 61)  # a class without rows
    rows = 0.1 * labels[:, None] + np.einsum("nd,nde->ne", rng.normal(size=(61, 4)), mixing[labels])
    starts = NormalStarts((2, 2), 3, spread=100.0, directions=64)
    images, known = torch.tensor(rows).float().reshape(-1, 2, 2), torch.tensor(labels)
    starts.fit((images[part], known[part]) for part in torch.arange(61).split(20))
    for label in range(2):
        mine = rows[labels == label]
        drawn = starts(torch.full((200_000,), label), generator()).flatten(1).double().numpy()
        np.testing.assert_allclose(drawn.mean(0), mine.mean(0), atol=0.01)
        np.testing.assert_allclose(np.cov(drawn.T), np.cov(mine.T, bias=True), atol=0.01)
    assert not bool(starts(torch.full((5,), 2), generator()).any())
    narrow = NormalStarts((2, 2), 3, spread=0.05)
    narrow.load_state_dict(NormalStarts((2, 2), 3).state_dict())
    narrow.fit([(images, known)])
    assert float(narrow(known, generator()).abs().max()) == pytest.approx(0.05)


def test_the_covariance_of_normal_states_is_that_of_the_first_rows():
    rows = torch.tensor([[0.0], [2.0], [7.0], [7.0]])
    starts = NormalStarts((1,), directions=2, spread=1e9)
    starts.fit([(rows[:3], torch.tensor([0, 4, 0])), (rows[3:], torch.tensor([1]))])
    assert float(starts.means) == 4, "the mean is that of all rows; one class ignores labels"
    torch.testing.assert_close(starts.directions[0, :, 0], torch.tensor([-1.0, 1.0]) / math.sqrt(2))


def test_chains_start_from_the_rows_of_their_class():
    buffer = ReplayBuffer(NormalStarts((1,), 2), 100, generator=generator(), restart=0.5)
    assert not bool(buffer.samples.any())
    rows, labels = torch.tensor([[-0.9], [-0.8], [0.6], [0.7]]), torch.tensor([0, 0, 1, 1])
    buffer.start_from([(rows, labels)], generator(1))
    assert float(buffer.samples[:50].mean()) == pytest.approx(-0.85, abs=0.05)
    assert float(buffer.samples[50:].mean()) == pytest.approx(0.65, abs=0.05)
    buffer.samples += 100
    chains, start = buffer.draw(400, generator(2))
    fresh = start[:, 0] < 50
    assert 150 < int(fresh.sum()) < 250
    assert bool(((start[fresh, 0] > 0) == (chains[fresh] >= 50)).all())


# ---- joint energies ---------------------------------------------------------------------------------
