import math
import warnings

import pytest
import torch
from draws import generator

from featood.energies import (
    ReplayBuffer,
)

# ---- replay buffer ----------------------------------------------------------------------------------


def test_initial_states_are_uniform_in_equal_blocks():
    buffer = ReplayBuffer((2, 3), 1000, generator=generator(), classes=3, spread=2.0)
    assert buffer.samples.shape == (999, 2, 3) and buffer.block == 333
    assert -2 < float(buffer.samples.min()) < -1.98 and 1.98 < float(buffer.samples.max()) < 2
    assert float(buffer.samples.std()) == pytest.approx(2 / math.sqrt(3), rel=0.03)
    assert ReplayBuffer((1,), 2, generator=generator(), classes=5).samples.shape == (5, 1)


def test_chains_continue_from_their_states():
    buffer = ReplayBuffer((1,), 6, generator=generator(), restart=0.0)
    before = buffer.samples.clone()
    chains, start = buffer.draw(4, generator(1))
    assert torch.equal(start, before[chains])
    buffer.put(torch.tensor([1, 4, 1]), torch.tensor([[10.0], [20.0], [30.0]]))
    expected = before.clone()
    expected[1], expected[4] = 30.0, 20.0
    assert torch.equal(buffer.samples, expected), "the last of two states is stored"
    assert "samples" in buffer.state_dict()


def test_sampling_moves_the_chains_it_drew_by_langevin_steps():
    buffer = ReplayBuffer((2,), 50, generator=generator(), restart=0.0)
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
    buffer = ReplayBuffer((1,), 40, generator=generator(), classes=4)
    labels = torch.arange(4).repeat(500)
    chains, _ = buffer.draw(2000, generator(1), labels)
    assert torch.equal(chains // 10, labels) and len(set(chains.tolist())) == 40
    free, _ = buffer.draw(2000, generator(1))
    assert len(set(free.tolist())) == 40


def test_some_chains_are_reinitialised():
    buffer = ReplayBuffer((1,), 10, generator=generator(), restart=0.3, spread=1.0)
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

    buffer = ReplayBuffer((1,), 40, generator=generator(), restart=0.0)
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
        again = ReplayBuffer((1,), 40, generator=generator(), restart=0.0)
        run(again, generator(1), gradient_limit=1e-21, bounds=(-1.0, 0.6))
    assert int(again.restarted) == 0
    assert int(buffer.state_dict()["restarted"]) == int(buffer.restarted) >= int(lost.sum())


def test_chains_of_infinite_energy_are_reinitialised():
    buffer = ReplayBuffer((1,), 200, generator=generator(), restart=0.0)
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


# ---- joint energies ---------------------------------------------------------------------------------
