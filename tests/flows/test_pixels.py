import math

import numpy as np
import pytest
import torch
from draws import generator, normal
from scipy.integrate import quad
from scipy.special import logit
from scipy.stats import norm
from torch import nn

from featood.flows import FlowDensity, PixelDensity, bits_per_dim, image_realnvp
from featood.flows.coupling import ActNorm
from featood.flows.density import Flatten
from featood.flows.pixels import PixelLogits

HALF = (0.5,)


def affine(shape=(1, 1, 1), log_scale=0.0, shift=0.0):
    flow = FlowDensity(math.prod(shape), [ActNorm(shape[0]), Flatten(shape)])
    with torch.no_grad():
        flow.flows[0].log_scale.fill_(log_scale)
        flow.flows[0].shift.fill_(shift)
    return flow


def density(*flows):
    return PixelDensity(flows or [affine()], HALF, HALF).double().eval()


def images_of(levels):
    """Return normalised images of integer levels ``[B, C, H, W]``."""
    return (torch.as_tensor(levels).double() / 255 - 0.5) / 0.5


def naive(level, u, log_scale=0.0, shift=0.0):
    """Return the log-density of one pixel, by the formulas on numbers."""
    y = (level + u) / 256
    t = 0.05 + 0.9 * y
    z = math.exp(log_scale) * logit(t) + shift
    return norm.logpdf(z) + log_scale + math.log(0.9 / (t * (1 - t))) - math.log(256)


def test_log_densities_against_numbers():
    levels, u = torch.tensor([[0, 255], [17, 128]]), torch.tensor([[0.0, 0.99], [0.3, 0.5]]).double()
    net = PixelDensity([affine((1, 1, 2), 0.5, -0.25)], HALF, HALF).double()
    images = images_of(levels).view(2, 1, 1, 2)
    found = net.log_density(images, u.view(2, 1, 1, 2)).detach()
    for row in range(2):
        expected = sum(naive(int(levels[row, i]), float(u[row, i]), 0.5, -0.25) for i in range(2))
        assert float(found[row, 0]) == pytest.approx(expected, abs=1e-7)
    middle = [sum(naive(int(level), 0.5, 0.5, -0.25) for level in row) for row in levels]
    np.testing.assert_allclose(net(images).detach()[:, 0], middle, atol=1e-7)
    bits = bits_per_dim(net(images).detach()[:, 0], net.size)
    np.testing.assert_allclose(bits, [-value / 2 / math.log(2) for value in middle], atol=1e-7)


def test_a_uniform_density_has_eight_bits_per_pixel():
    """The logistic distribution on the logits, cut to their range, is uniform on the pixels."""

    class Uniform(nn.Module):
        def forward(self, maps):  # to normal variables, by the distribution function
            share = ((maps.sigmoid() - 0.05) / 0.9).flatten(1)
            latent = torch.special.ndtri(share)
            slope = maps.sigmoid() * (1 - maps.sigmoid()) / 0.9
            return latent, (slope.flatten(1).log() - norm.logpdf(latent)).sum(1)

    net = density(FlowDensity(12, [Uniform()]))
    levels = torch.randint(0, 256, (5, 3, 2, 2), generator=generator())
    noise = torch.rand(levels.shape, generator=generator(), dtype=torch.float64)
    torch.testing.assert_close(
        bits_per_dim(net.log_density(images_of(levels), noise)[:, 0], 12), torch.full((5,), 8.0).double()
    )


def test_probabilities_of_one_pixel_sum_to_the_mass_of_the_flow():
    for log_scale, shift in ((1.5, 0.2), (0.0, 0.0)):
        net = density(affine(log_scale=log_scale, shift=shift))

        def probability(u, net=net):
            noise = torch.full((256, 1, 1, 1), u, dtype=torch.float64)
            with torch.no_grad():
                return float(
                    net.log_density(images_of(torch.arange(256).view(-1, 1, 1, 1)), noise).exp().sum()
                )

        total = quad(probability, 0, 1)[0]
        ends = math.exp(log_scale) * logit([0.05, 0.95]) + shift
        mass = norm.cdf(ends[1]) - norm.cdf(ends[0])
        assert total == pytest.approx(mass, rel=1e-6)
        if log_scale:
            assert total == pytest.approx(1, abs=1e-6)


def test_probabilities_of_two_pixels_sum_to_one():
    torch.manual_seed(0)
    flow = image_realnvp((1, 1, 2), 1, 4, 1)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    net = density(FlowDensity(2, [ActNorm(1), *flow.flows]))
    with torch.no_grad():
        net.flows[0].flows[0].log_scale.fill_(1.0)
        levels = torch.cartesian_prod(torch.arange(256), torch.arange(256)).view(-1, 1, 1, 2)
        total = float(net(images_of(levels)).exp().sum())  # the middle of a level stands for all of it
    assert total == pytest.approx(1, abs=1e-4)


def test_the_log_determinant_of_the_pixels_is_that_of_the_jacobian():
    pixels, image = PixelLogits((0.4, 0.5), (0.2, 0.3)).double(), 0.5 * normal(1, 8).view(1, 2, 2, 2)
    image = image.clamp(-1, 1)
    values, log_det = pixels(image)
    jacobian = torch.autograd.functional.jacobian(lambda x: pixels(x)[0].flatten(), image).flatten(1)
    # in units of levels: a normalised value is 255 times the standard deviation of them
    units = 4 * math.log(255 * 0.2) + 4 * math.log(255 * 0.3)
    found = torch.linalg.slogdet(jacobian).logabsdet - units
    torch.testing.assert_close(log_det, found[None], rtol=1e-6, atol=1e-6)
    assert values.abs().max() < 2.95


def test_all_levels_return():
    levels = torch.arange(256).view(1, 1, 16, 16)
    for mean, std in ((HALF, HALF), ((0.4914,), (0.2470,))):
        pixels = PixelLogits(mean, std)
        images = (levels.float() / 255 - mean[0]) / std[0]
        for u in (0.01, 0.5, 0.99):
            back = pixels.inverse(pixels(images, torch.full(images.shape, u))[0])
            torch.testing.assert_close(back, images, atol=1e-5, rtol=0)


def test_images_of_density_zero_have_the_lowest_finite_value():
    net, lowest = density(affine((1, 2, 2), 0.3)), torch.finfo(torch.float64).min
    image = images_of(torch.full((1, 1, 2, 2), 9))
    odd = [image.clone() for _ in range(4)]
    odd[0][0, 0, 0, 0] = 255.0  # pixels that were not scaled
    odd[1][0, 0, 1, 1] = -1.1
    odd[2][0, 0, 0, 1] = math.nan
    odd[3][0, 0, 0, 1] = math.inf
    latents = []
    net.latent.register_forward_hook(lambda *call: latents.append(call[2]))
    found = net(torch.cat([image, *odd])).detach()
    assert torch.isfinite(found).all() and torch.isfinite(latents[0]).all()
    assert found[:, 0].tolist() == [pytest.approx(float(net(image))), *[lowest] * 4]
    assert found.logsumexp(1).isfinite().all()
    almost = image.clone()
    almost[0, 0, 0, 0] = -1 - 1e-6  # rounding errors of a normalisation
    assert float(net(almost)) > -1e3
    overflowing = density(affine((1, 2, 2), 1000.0))
    assert float(overflowing(image)) == lowest


def test_classes_are_a_mixture():
    flows = [affine((1, 2, 2), 0.1 * k, 0.3 * k) for k in range(3)]
    net = density(*flows)
    labels = torch.tensor([0, 0, 1, 2, 2, 2])
    net.count(labels)
    images = images_of(torch.randint(0, 256, (6, 1, 2, 2), generator=generator()))
    each = torch.stack([density(flow)(images)[:, 0] for flow in flows], 1)
    shares = torch.tensor([2, 1, 3]).double() / 6
    joint = net(images)
    torch.testing.assert_close(joint, each + shares.log())
    torch.testing.assert_close(joint.logsumexp(1).exp(), (each.exp() * shares).sum(1))
    posterior = each.exp() * shares
    torch.testing.assert_close(joint.softmax(1), posterior / posterior.sum(1, keepdim=True))
    own = net.log_density_of(images, labels)
    torch.testing.assert_close(own, each.gather(1, labels[:, None])[:, 0])
    latents = []
    net.latent.register_forward_hook(lambda *call: latents.append(call[2]))
    net(images)
    maps, _ = net.pixels(images)
    for row, best in enumerate(joint.argmax(1)):
        torch.testing.assert_close(latents[0][row], flows[best](maps[row : row + 1])[0][0])
    net.count(torch.tensor([0, 0, 2]))  # a class without images
    assert net(images).isfinite().all() and net(images).argmax(1).ne(1).all()


def test_samples_have_the_distribution_of_the_flows():
    flows = [affine((1, 4, 4), 1.0, -2.0), affine((1, 4, 4), 1.0, 2.0)]
    net = density(*flows)
    net.count(torch.tensor([0, 1, 1, 1]))
    draws = net.sample(400, generator())
    assert draws.shape == (400, 1, 4, 4) and torch.equal(draws, net.sample(400, generator()))
    levels = (draws * 0.5 + 0.5) * 255
    torch.testing.assert_close(levels, levels.round(), atol=1e-4, rtol=0)
    bright = levels.mean((1, 2, 3)) < 127.5
    assert abs(float(bright.double().mean()) - 0.75) < 0.07 and not bright[:50].all()
    dark = levels[~bright].flatten()
    expected = 256 * (1 / (1 + np.exp(-2 / math.e)) - 0.05) / 0.9  # of the median, with a logit of 2 / e
    assert float(dark.median()) == pytest.approx(expected, abs=3)


def test_gradients_are_finite():
    net, images = density(affine((1, 2, 2))), images_of(torch.tensor([[0, 255], [3, 9]]).view(1, 1, 2, 2))
    images.requires_grad_()
    net(images).sum().backward()
    assert images.grad.isfinite().all()
