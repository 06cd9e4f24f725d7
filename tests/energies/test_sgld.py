import numpy as np
import pytest
import torch
from draws import generator
from torch import nn

from featood.energies import contrastive_divergence, decay, frozen, sgld
from featood.energies.sgld import sampler_net


def quartic(x):
    return (x**4 / 4 + x).flatten(1).sum(1)


@pytest.mark.parametrize("shape", [(5, 3), (2, 1, 4, 4)])
def test_follows_the_recursion_step_by_step(shape):
    start = torch.randn(shape, generator=generator(1), dtype=torch.float64)
    before = start.clone()
    found = sgld(
        quartic,
        start,
        steps=7,
        step_size=0.05,
        noise=0.2,
        generator=generator(2),
        project=lambda x: x.clamp(min=-0.5),
    )
    source, x = generator(2), before.numpy()
    for t in range(7):
        eta = (0.05 - 0.005) * (1 - t / 7) ** 2 + 0.005
        spread = (0.2 - 0.02) * (1 - t / 7) ** 2 + 0.02
        xi = spread * torch.randn(shape, generator=source, dtype=torch.float64).numpy()
        x = np.maximum(x - eta * (x**3 + 1) - xi, -0.5)
    np.testing.assert_allclose(found, x, rtol=1e-12)
    assert torch.equal(start, before) and not found.requires_grad


def test_limits_and_constant_schedule():
    start = torch.tensor([[3.0], [-3.0]])
    found = sgld(
        lambda x: 50 * x.square().sum(1),
        start,
        steps=2,
        step_size=0.5,
        noise=0.0,
        generator=generator(),
        final=1.0,
        gradient_limit=1.0,
        bounds=(-2.2, 2.8),
    )
    # 3 -> 2.5 -> 2.0, and -3 -> -2.5, clamped to -2.2 -> -1.7
    torch.testing.assert_close(found, torch.tensor([[2.0], [-1.7]]))
    assert [decay(t, 4, 0.1) for t in range(5)] == pytest.approx(
        [1, 0.1 + 0.9 * 9 / 16, 0.1 + 0.9 / 4, 0.1 + 0.9 / 16, 0.1]
    )


def test_no_steps_return_the_start():
    start = torch.ones(2, 3, requires_grad=True)
    found = sgld(quartic, start, steps=0, step_size=1, noise=1, generator=generator())
    assert torch.equal(found, start) and not found.requires_grad


def test_long_chains_have_the_distribution_of_the_energy():
    eta = 0.1
    x = sgld(
        lambda x: 0.5 * (x - 2).square().sum(1),  # N(2, 1)
        torch.zeros(20_000, 1),
        steps=80,
        step_size=eta,
        noise=(2 * eta) ** 0.5,
        generator=generator(),
        final=1.0,
    )
    assert float(x.mean()) == pytest.approx(2, abs=0.05)
    assert float(x.var()) == pytest.approx(1 / (1 - eta / 2), rel=0.05)  # variance of the discrete chain


def test_a_gradient_in_closed_form_is_added():
    eta, center = 0.1, torch.tensor([2.0, -1.0])
    x = sgld(
        lambda x: 0.5 * x.square().sum(1),
        torch.zeros(20_000, 2),
        steps=60,
        step_size=eta,
        noise=(2 * eta) ** 0.5,
        generator=generator(),
        final=1.0,
        known=lambda x: 3 * (x - center),
    )
    # the sum is the energy of N(3/4 center, 1/4)
    torch.testing.assert_close(x.mean(0), 0.75 * center, rtol=0, atol=0.02)
    torch.testing.assert_close(x.var(0), torch.full((2,), 0.25 / (1 - 2 * eta)), rtol=0.05, atol=0)


def test_samples_depend_on_the_seed_but_not_on_the_global_state():
    def run(seed):
        return sgld(quartic, torch.ones(3, 2), steps=4, step_size=0.1, noise=0.1, generator=generator(seed))

    torch.manual_seed(0)
    first = run(5)
    torch.manual_seed(1)
    assert torch.equal(run(5), first) and not torch.equal(run(6), first)


def test_a_frozen_network_gets_no_gradients():
    net = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.BatchNorm1d(4), nn.Linear(4, 1))
    net[0].bias.requires_grad_(False)
    net[1].eval()
    with frozen(net):
        assert not any(module.training for module in net.modules())
        with torch.no_grad():  # sampling must also work in a context without gradients
            sgld(
                lambda x: net(x)[:, 0], torch.ones(3, 3), steps=2, step_size=1, noise=0, generator=generator()
            )
    assert all(parameter.grad is None for parameter in net.parameters())
    assert [parameter.requires_grad for parameter in net.parameters()] == [True, False] + [True] * 4
    assert net.training and net[2].training and not net[1].training


def test_contrastive_divergence_by_hand():
    found = contrastive_divergence(
        lambda x: x.sum(1), torch.tensor([[1.0, 2.0]]), torch.tensor([[2.0, 3.0], [0.0, 1.0]]), l2=0.5
    )
    assert found["positive"] == 3 and found["negative"] == 3
    assert float(found["loss"]) == pytest.approx(3 - 3 + 0.5 * (9 + (25 + 1) / 2))


def test_contrastive_divergence_noise():
    rows = torch.zeros(4000, 2)

    def run(seed):
        return contrastive_divergence(
            lambda x: x.square().mean(1), rows, rows, l2=0, noise=0.1, generator=generator(seed)
        )

    found = run(0)
    for name in ("positive", "negative"):
        assert float(found[name]) == pytest.approx(0.01, rel=0.1)
    assert found["positive"] != found["negative"], "the noise of each differs"
    assert run(0) == found and run(1) != found
    with pytest.raises(ValueError, match="generator"):
        contrastive_divergence(lambda x: x.sum(1), rows, rows, l2=0, noise=0.1)


def test_a_sampler_network_in_bfloat16_is_a_copy():
    net = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.SiLU(), torch.nn.Linear(8, 1))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    rows = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    with sampler_net(net, "bfloat16") as fast:
        assert not any(parameter.requires_grad for parameter in fast.parameters())
        assert all(parameter.requires_grad for parameter in net.parameters())
        found = fast(rows)
        assert found.dtype == torch.float32 and not torch.equal(found, net(rows))
        torch.testing.assert_close(found, net(rows), rtol=0.02, atol=0.02)
        moved = sgld(lambda x: fast(x).squeeze(1), rows, steps=5, step_size=0.1, noise=0.0,
                     generator=torch.Generator())  # fmt: skip
    expected = sgld(lambda x: net(x).squeeze(1), rows, steps=5, step_size=0.1, noise=0.0,
                    generator=torch.Generator())  # fmt: skip
    torch.testing.assert_close(moved, expected, rtol=0, atol=5e-3)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    with sampler_net(net) as same:
        assert same is net and not any(parameter.requires_grad for parameter in net.parameters())
