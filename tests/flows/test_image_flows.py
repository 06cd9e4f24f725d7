import math

import numpy as np
import pytest
import torch
from draws import generator, normal
from torch import nn

from featood.errors import UsageError
from featood.flows import FlowDensity, image_glow, image_realnvp, image_residual_flow
from featood.flows.coupling import ActNorm, CheckerboardCoupling, HalfCoupling, InvertibleLinear
from featood.flows.density import Chain, Flatten
from featood.flows.images import FactorOut, Squeeze, residual_network, small_network
from featood.flows.radial import SingleRadialFlow
from featood.flows.residual import residual_convolutions

SHAPE = (2, 4, 4)


def shaken(module, seed=1, amount=0.2):
    """Change the initial parameters, for which some flows are the identity."""
    draws = generator(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(amount * torch.randn(parameter.shape, generator=draws))
    return module.double().eval()


def maps(count=3, shape=SHAPE, seed=0):
    return normal(count, math.prod(shape), seed=seed).view(-1, *shape)


LAYERS = {
    "squeeze": Squeeze,
    "flatten": lambda: Flatten(SHAPE),
    "actnorm": lambda: ActNorm(2),
    "matrix": lambda: InvertibleLinear(2, generator()),
    "halves": lambda: HalfCoupling(2, small_network(5)),
    "halves-swapped": lambda: HalfCoupling(2, small_network(5), swap=True),
    "checkerboard": lambda: CheckerboardCoupling(SHAPE, residual_network(4, 1)),
    "checkerboard-swapped": lambda: CheckerboardCoupling(SHAPE, residual_network(4, 1), swap=True),
    "residual": lambda: residual_convolutions(SHAPE, 5, 0.9, 5, True),
    "factor-out": lambda: FactorOut(SHAPE, Chain([ActNorm(1), Flatten((1, 4, 4))])),
    "radial": lambda: Chain([Flatten(SHAPE), SingleRadialFlow(3, 32, generator())]),
}
FLOWS = {
    "glow": lambda shape=SHAPE: image_glow(shape, 2, 2, 6, generator()),
    "realnvp": lambda shape=SHAPE: image_realnvp(shape, 2, 4, 1, generator()),
    "iresnet": lambda shape=SHAPE: image_residual_flow(shape, 1, 2, 6, generator=generator()),
}


@pytest.mark.parametrize("name", [*LAYERS, *FLOWS])
def test_log_det_and_inverse(name):
    torch.manual_seed(0)
    flow = shaken((LAYERS | FLOWS)[name]())
    images = maps()
    with torch.no_grad():
        latent, log_det = flow(images)
        back = flow.inverse(latent)
    found = []
    for image in images:
        jacobian = torch.autograd.functional.jacobian(lambda x: flow(x[None])[0].flatten(), image)
        found.append(torch.linalg.slogdet(jacobian.flatten(1)).logabsdet)
    assert log_det.shape == (3,)
    torch.testing.assert_close(log_det, torch.stack(found), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(back, images, rtol=1e-8, atol=1e-8)
    if list(flow.parameters()):
        assert log_det.abs().min() > 1e-3, "a test of the identity shows nothing"


@pytest.mark.parametrize("name", FLOWS)
def test_the_density_is_that_of_normal_latents(name):
    flow, images = shaken(FLOWS[name]()), maps()
    with torch.no_grad():
        latent, log_det = flow(images)
        expected = torch.distributions.Normal(0.0, 1.0).log_prob(latent).sum(1) + log_det
        torch.testing.assert_close(flow.log_density(images), expected)
    assert latent.shape == (3, 32)
    samples = flow.sample(5, generator())
    assert samples.shape == (5, *SHAPE) and torch.equal(samples, flow.sample(5, generator()))


@pytest.mark.parametrize("name", FLOWS)
def test_the_density_of_an_image_does_not_depend_on_others(name):
    flow, images = shaken(FLOWS[name]((3, 8, 8))), maps(5, (3, 8, 8))
    with torch.no_grad():
        alone = torch.cat([flow.log_density(image[None]) for image in images])
        torch.testing.assert_close(flow.log_density(images), alone, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", FLOWS)
def test_initial_weights_depend_only_on_the_seed(name):
    before = torch.random.get_rng_state()
    one, other = FLOWS[name]().state_dict(), FLOWS[name]().state_dict()
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_the_matrices_of_a_glow_differ():
    steps = image_glow((1, 4, 4), 1, 2, 4).flows
    assert not torch.equal(steps[2].lower, steps[5].lower)


def test_squares_become_channels():
    images = maps(2, (3, 4, 6))
    squeezed, log_det = Squeeze()(images)
    assert squeezed.shape == (2, 12, 2, 3) and not log_det.any()
    for b, c, y, x in np.ndindex(2, 3, 4, 6):
        assert squeezed[b, 4 * c + 2 * (y % 2) + x % 2, y // 2, x // 2] == images[b, c, y, x]


def test_each_level_leaves_out_half_of_the_channels():
    image = torch.arange(64.0).view(1, 1, 8, 8)
    flow = image_glow((1, 8, 8), 3, 0, 4)
    pixels = image[0, 0].numpy()

    def squares(channels):
        return np.concatenate([[c[i::2, j::2] for i in (0, 1) for j in (0, 1)] for c in channels])

    first = squares(pixels[None])
    second = squares(first[2:])
    third = squares(second[4:])
    expected = np.concatenate([level.ravel() for level in (first[:2], second[:4], third)])
    latent, _ = flow(image)
    np.testing.assert_array_equal(latent[0].numpy(), expected)
    assert torch.equal(flow.inverse(latent), image)
    assert torch.equal(flow.inverse(latent.view(1, 1, 8, 8)), image), (
        "the base may have the shape of the images"
    )


def test_a_checkerboard_keeps_every_second_field_of_all_channels():
    for swap in (False, True):
        flow, image = shaken(CheckerboardCoupling(SHAPE, residual_network(4, 1), swap)), maps(1)
        changed = (flow(image)[0] != image)[0].detach().numpy()
        fields = np.indices((4, 4)).sum(0) % 2 == (0 if swap else 1)
        np.testing.assert_array_equal(changed, np.broadcast_to(fields, SHAPE))


def test_normalisations_are_initialised_on_all_levels():
    flow = image_glow((1, 8, 8), 2, 1, 4, generator())
    images = (3 + 2 * maps(50, (1, 8, 8))).float()
    flow.initialize(images)
    inner: list = []
    flow.flows[-1].rest.flows[1].register_forward_hook(lambda *call: inner.append(call[2][0]))
    flow(images)
    for values in (flow.flows[1](Squeeze()(images)[0])[0], inner[0]):
        channels = values.shape[1]
        torch.testing.assert_close(values.mean((0, 2, 3)), torch.zeros(channels), atol=1e-5, rtol=0)
        torch.testing.assert_close(
            values.std((0, 2, 3), correction=0), torch.ones(channels), atol=1e-5, rtol=0
        )


def test_couplings_are_initially_the_identity_and_their_scales_bounded():
    flow = image_realnvp((1, 4, 4), 1, 4, 1)
    image = maps(1, (1, 4, 4)).float()
    assert torch.equal(flow(image)[0].view_as(image), image)
    coupling = HalfCoupling(2, small_network(4))
    with torch.no_grad():
        coupling.network[-1].bias.fill_(1e6)
        scale, _ = coupling._affine(maps(1)[:, :1].float())
    torch.testing.assert_close(scale, torch.ones_like(scale))


# ---- residual blocks of maps ------------------------------------------------------------------------


def block_of(shape=(1, 10, 10), **options):
    torch.manual_seed(0)
    block = residual_convolutions(shape, 6, 0.9, **{"terms": 5, "roulette": False, **options})
    with torch.no_grad():
        for layer in block.layers:
            layer.weight.mul_(10)
    return block.double()


def test_the_norm_of_the_operators_is_bounded():
    block, images = block_of(), maps(2, (1, 10, 10))
    block.train()
    for _ in range(20):
        block(images, generator())
    for layer, weight in zip(block.layers, block.eval().weights(images), strict=True):
        channels = weight.shape[1]
        eye = torch.eye(channels * 100, dtype=torch.float64).view(-1, channels, 10, 10)
        matrix = nn.functional.conv2d(eye, weight, padding=layer.padding).flatten(1)
        assert torch.linalg.matrix_norm(matrix, 2).item() == pytest.approx(0.9, rel=0.01)


def test_the_series_of_convolutions_is_unbiased(monkeypatch):
    block, image = block_of(terms=2, roulette=True).eval(), maps(1, (1, 10, 10))
    with torch.no_grad():
        jacobian = torch.autograd.functional.jacobian(lambda x: block(x)[0].flatten(), image).flatten(1)
        exact = float(torch.linalg.slogdet(jacobian).logabsdet)
        draws, many = generator(), image.expand(200, -1, -1, -1)
        means = torch.stack([block(many, draws)[1].mean() for _ in range(40)])
        assert abs(float(means.mean()) - exact) < 4 * float(means.std()) / 40**0.5
        fixed = block(image)[1].item()
        among = block(torch.cat([image, maps(3, (1, 10, 10), seed=1)]))[1][0].item()
        assert fixed == pytest.approx(among, rel=1e-12) and fixed != exact
        assert abs(fixed - exact) < 4 * float(torch.cat([block(many, draws)[1]]).std())
        monkeypatch.setattr("featood.flows.residual.EXACT_MAP", 100)
        assert block(image)[1].item() == pytest.approx(exact, abs=1e-9)


# ---- use --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FLOWS)
def test_the_density_of_draws_has_gradients(name):
    flow, images = shaken(FLOWS[name]()), maps(6)
    draws = flow.inverse(maps(6, seed=1))
    (flow.log_density(images) - flow.log_density(draws)).mean().backward()
    assert draws.shape == images.shape
    assert all(parameter.grad is not None for parameter in flow.parameters() if parameter.requires_grad)


@pytest.mark.parametrize(
    ("make", "option", "side"),
    [
        (lambda: image_glow((1, 28, 28), 3, 1, 4), "levels", 32),
        (lambda: image_realnvp((3, 30, 30), 3, 4, 1), "scales", 32),
        (lambda: image_residual_flow((1, 27, 28), 1, 1, 4), "levels", 28),
    ],
)
def test_sizes_that_cannot_be_halved(make, option, side):
    with pytest.raises(UsageError, match=rf"choose a smaller --{option}, or --image-size {side},"):
        make()


def test_a_chain_of_chains_is_a_flow():
    inner = FlowDensity(32, [ActNorm(2), Flatten(SHAPE)])
    nested = shaken(Chain([ActNorm(2), Chain([inner])]))
    latent, log_det = nested(maps())
    total = nested.flows[0].log_scale.sum() + inner.flows[0].log_scale.sum()
    torch.testing.assert_close(log_det, (16 * total).expand(3))
    torch.testing.assert_close(nested.inverse(latent), maps())
