"""Comparison of the flows with those of normflows, with the same parameters in float64."""

import pytest
import torch
from draws import generator, normal
from torch import nn

from featood.flows import PlanarFlow, RadialFlows, ResidualFlow
from featood.flows.coupling import ActNorm, HalfCoupling, perceptron

normflows = pytest.importorskip("normflows")
lipschitz = pytest.importorskip("normflows.nets.lipschitz")
TOLERANCE = {"rtol": 1e-10, "atol": 1e-10}
LOOSE = {"rtol": 1e-6, "atol": 1e-6}
"""Tolerance for normflows' spectral normalisation, which rounds the norm to float32 (about 3e-8 per layer)."""


def shaken(module, amount=0.5):
    draws = generator(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(amount * torch.randn(parameter.shape, generator=draws))
    return module.double().eval()


@pytest.mark.parametrize("size", [2, 5, 32])
def test_radial(size):
    flows, rows = shaken(RadialFlows(3, 4, size, generator())), 2 * normal(20, size)
    alpha, _ = flows.coefficients()
    latent, log_det = flows(rows[:, None])
    density = flows.log_density(rows)
    for c in range(3):
        z, total = rows, torch.zeros(20, dtype=torch.float64)
        for layer in range(4):
            peer = normflows.flows.Radial((size,), flows.centers[c, layer][None].detach().clone()).double()
            with torch.no_grad():
                peer.alpha.fill_(alpha[c, layer])
                peer.beta.fill_(flows.raw_beta[c, layer])
            z, part = peer(z)
            total = total + part
        torch.testing.assert_close(latent[:, c], z, **TOLERANCE)
        torch.testing.assert_close(log_det[:, c], total, **TOLERANCE)
        base = normflows.distributions.DiagGaussian(size, trainable=False).double()
        torch.testing.assert_close(density[:, c], base.log_prob(z) + total, **TOLERANCE)


@pytest.mark.parametrize("size", [2, 5, 32])
def test_planar(size):
    flow, rows = shaken(PlanarFlow(size, 4, generator())), 2 * normal(20, size)
    z, total = rows, torch.zeros(20, dtype=torch.float64)
    for u, w, b in zip(flow.push, flow.weight, flow.bias, strict=True):
        peer = normflows.flows.Planar((size,), u=u[None].detach(), w=w[None].detach(), b=b[None].detach())
        z, part = peer(z)
        total = total + part
    latent, log_det = flow(rows)
    torch.testing.assert_close(latent, z, **TOLERANCE)
    torch.testing.assert_close(log_det, total, **TOLERANCE)


@pytest.mark.parametrize("swap", [False, True])
def test_affine_coupling(swap):
    class Affine(nn.Module):
        """Scales and shifts of the coupling, in the order of normflows."""

        def forward(self, kept):
            log_scale, shift = coupling._affine(kept)
            return torch.stack([shift, log_scale], 2).flatten(1)

    coupling, rows = shaken(HalfCoupling(6, perceptron([16], generator=generator()), swap)), 2 * normal(20, 6)
    peer = normflows.flows.AffineCouplingBlock(Affine(), split_mode="channel_inv" if swap else "channel")
    expected, total = peer(rows)
    latent, log_det = coupling(rows)
    torch.testing.assert_close(latent, expected, **TOLERANCE)
    torch.testing.assert_close(log_det, total, **TOLERANCE)
    torch.testing.assert_close(coupling.inverse(latent), peer.inverse(expected)[0], **TOLERANCE)


def peer_block(block, **options):
    """Create a block of normflows with our layers, with enough iterations for its singular vectors to converge."""
    parts = []
    for layer in block.layers:
        outputs, inputs = layer.weight.shape
        peer = lipschitz.InducedNormLinear(inputs, outputs, coeff=layer.bound, n_iterations=5).double()
        with torch.no_grad():
            peer.weight.copy_(layer.weight)
            peer.bias.copy_(layer.bias)
            peer.compute_weight(update=True, n_iterations=5000)
        parts += [peer, nn.ELU()]
    return normflows.flows.Residual(nn.Sequential(*parts[:-1]), reverse=False, **options).eval()


# normflows' determinant is exact in two dimensions; otherwise it is a series of at least 20 terms, whose remainder is
# below D (bound^layers)^21 / 21: 2e-10 for bounds of 0.6 and two layers.
@pytest.mark.parametrize(
    "size, depth, bound, options",
    [
        (2, 1, 0.9, {"brute_force": True}),
        (2, 3, 0.9, {"brute_force": True}),
        (5, 1, 0.6, {"exact_trace": True}),
    ],
)
def test_residual_blocks(size, depth, bound, options):
    flow = shaken(ResidualFlow(size, 2, 7, depth, bound=bound, generator=generator()))
    rows = 2 * normal(20, size)
    z, total = rows, torch.zeros(20, dtype=torch.float64)
    for norm, block in zip(flow.flows[::2], flow.flows[1::2], strict=True):
        assert isinstance(norm, ActNorm)
        z, scales = norm(z)
        peer = peer_block(block, **options)
        z, part = peer(z)
        total = (total + scales + part).detach()
        z = z.detach()
    latent, log_det = flow(rows)
    assert float(log_det.detach().std()) > 0.01
    torch.testing.assert_close(latent, z, **LOOSE)
    torch.testing.assert_close(log_det, total, **LOOSE)


def test_active_bounds_agree():
    flow = shaken(ResidualFlow(6, 1, 9, bound=0.5, generator=generator()), amount=2.0)
    block = flow.flows[1]
    peer, rows = peer_block(block).iresblock.nnet, normal(3, 6)
    for ours, theirs in zip(block.weights(rows), peer[::2], strict=True):
        matrix = theirs.compute_weight(update=False)
        assert torch.linalg.matrix_norm(ours, 2).item() == pytest.approx(0.5)
        torch.testing.assert_close(ours, matrix, **LOOSE)
    torch.testing.assert_close(block.residual(rows, block.weights(rows))[0], peer(rows), **LOOSE)
