import math

import pytest
import torch
from draws import generator, normal
from torch.distributions import MultivariateNormal

from featood.errors import UsageError
from featood.flows import (
    AutoregressiveFlow,
    FlowDensity,
    PlanarFlow,
    RadialFlows,
    ResidualFlow,
    glow,
    radial_log_density,
    realnvp,
)
from featood.flows.coupling import ActNorm, InvertibleLinear
from featood.flows.residual import exact_log_det, series_log_det
from featood.nets.lipschitz import LipschitzLinear


def shaken(module, seed=1, amount=0.3):
    """Change the initial parameters, for which some flows are the identity."""
    draws = generator(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(amount * torch.randn(parameter.shape, generator=draws))
    return module.double().eval()


FLOWS = {
    "planar": lambda size: FlowDensity(size, [PlanarFlow(size, 6, generator())]),
    "realnvp": lambda size: realnvp(size, 4, [16, 16], generator=generator()),
    "glow": lambda size: glow(size, 3, [16], "tanh", generator()),
    "iresnet": lambda size: ResidualFlow(size, 3, 7, generator=generator()),
    "maf": lambda size: AutoregressiveFlow(size, 3, [16, 16], generator=generator()),
    "spline": lambda size: AutoregressiveFlow(size, 2, [16, 16], bins=5, generator=generator()),
}
EXPLICIT = ["planar", "realnvp", "glow", "iresnet"]


def jacobian_log_det(flow, rows):
    """Compute log-determinants by autograd, one row at a time."""
    found = []
    for row in rows:
        jacobian = torch.autograd.functional.jacobian(lambda x: flow(x[None])[0][0], row)
        found.append(torch.linalg.slogdet(jacobian).logabsdet)
    return torch.stack(found)


@pytest.mark.parametrize("size", [2, 5, 9])
@pytest.mark.parametrize("name", EXPLICIT)
def test_log_det_and_inverse(name, size):
    flow, rows = shaken(FLOWS[name](size)), 2 * normal(6, size)
    latent, log_det = flow(rows)
    assert not torch.allclose(latent, rows)
    torch.testing.assert_close(log_det, jacobian_log_det(flow, rows), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(flow.inverse(latent), rows, rtol=1e-8, atol=1e-8)
    base = MultivariateNormal(torch.zeros(size, dtype=torch.float64), torch.eye(size, dtype=torch.float64))
    torch.testing.assert_close(flow.log_density(rows), base.log_prob(latent) + log_det)


def grid(reach=12.0, step=0.06):
    axis = torch.arange(-reach, reach, step, dtype=torch.float64)
    return torch.cartesian_prod(axis, axis), step * step


@pytest.mark.parametrize("name", FLOWS)
def test_densities_integrate_to_one(name):
    rows, area = grid()
    with torch.no_grad():
        total = float(shaken(FLOWS[name](2), amount=0.2).log_density(rows).exp().sum()) * area
    assert abs(total - 1) < 0.02


@pytest.mark.parametrize("name", FLOWS)
def test_samples_follow_the_density(name):
    flow = shaken(FLOWS[name](2), amount=0.2)
    samples = flow.sample(4000, generator())
    assert torch.equal(samples, flow.sample(4000, generator()))
    rows, area = grid(step=0.1)
    with torch.no_grad():
        weights = flow.log_density(rows).exp() * area
    mean = weights @ rows
    second = (rows * weights[:, None]).T @ rows
    torch.testing.assert_close(samples.mean(0), mean, atol=0.12, rtol=0)
    torch.testing.assert_close(samples.T @ samples / 4000, second, atol=0.25, rtol=0.05)


@pytest.mark.parametrize("name", FLOWS)
def test_initial_parameters_depend_only_on_the_seed(name):
    before = torch.random.get_rng_state()
    one, other = FLOWS[name](4).state_dict(), FLOWS[name](4).state_dict()
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(one[key], other[key]) for key in one)


# ---- radial -----------------------------------------------------------------------------------------


def radial(classes=3, layers=4, size=5, amount=1.0):
    return shaken(RadialFlows(classes, layers, size, generator()), amount=amount)


def naive_radial(flows, rows):
    """Compute log-densities by a loop over rows, classes and layers."""
    found = torch.zeros(len(rows), len(flows.centers), dtype=torch.float64)
    size = rows.shape[1]
    for n, row in enumerate(rows):
        for c in range(len(flows.centers)):
            z, log_det = row, 0.0
            for layer in range(flows.centers.shape[1]):
                alpha = math.log1p(math.exp(flows.raw_alpha[c, layer].item()))
                beta = -alpha + math.log1p(math.exp(flows.raw_beta[c, layer].item()))
                offset = z - flows.centers[c, layer]
                r = offset.detach().square().sum().item() ** 0.5
                h = 1 / (alpha + r)
                log_det += (size - 1) * math.log(1 + beta * h)
                log_det += math.log(1 + beta * h - beta * h**2 * r)
                z = z + beta * h * offset
            found[n, c] = log_det - 0.5 * (z.detach().square().sum().item() + size * math.log(2 * math.pi))
    return found


def test_radial_density_against_a_loop(monkeypatch):
    flows, rows = radial(), 2 * normal(9, 5)
    with torch.no_grad():
        expected = naive_radial(flows, rows)
        torch.testing.assert_close(flows.log_density(rows), expected, rtol=1e-10, atol=1e-10)
        monkeypatch.setattr("featood.flows.radial.CHUNK_BYTES", 8 * 12 * 2)
        torch.testing.assert_close(flows.log_density(rows), expected, rtol=1e-10, atol=1e-10)


def test_radial_density_and_its_gradient_agree_with_the_explicit_map():
    flows, rows = radial(), normal(7, 5)
    latent, log_det = flows(rows[:, None])
    explicit = log_det - 0.5 * (latent.square().sum(2) + 5 * math.log(2 * math.pi))
    torch.testing.assert_close(flows.log_density(rows), explicit)
    weights = normal(7, 3, seed=4)
    slow = torch.autograd.grad((weights * explicit).sum(), list(flows.parameters()))
    fast = torch.autograd.grad((weights * flows.log_density(rows)).sum(), list(flows.parameters()))
    for one, other in zip(fast, slow, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)


def test_radial_log_det_against_the_jacobian_and_the_inverse():
    flows, rows = radial(), 2 * normal(6, 1, 5)
    latent, log_det = flows(rows)
    for c in range(3):
        for n in range(6):
            jacobian = torch.autograd.functional.jacobian(
                lambda x, c=c: flows(x[None, None])[0][0, c], rows[n, 0]
            )
            torch.testing.assert_close(log_det[n, c], torch.linalg.slogdet(jacobian).logabsdet)
    torch.testing.assert_close(flows.inverse(latent), rows.expand(-1, 3, -1), rtol=1e-8, atol=1e-8)


def test_radial_densities_integrate_to_one():
    rows, area = grid()
    with torch.no_grad():
        totals = radial(size=2, amount=0.5).log_density(rows).exp().sum(0) * area
    torch.testing.assert_close(totals, torch.ones_like(totals), atol=0.02, rtol=0)


def test_radial_density_at_a_centre_and_far_away_is_finite():
    flows = radial()
    rows = torch.cat([flows.centers[:, 0].detach(), 1e6 * normal(2, 5)]).requires_grad_()
    density = flows.log_density(rows)
    (gradient,) = torch.autograd.grad(density.sum(), rows)
    assert bool(torch.isfinite(density).all()) and bool(torch.isfinite(gradient).all())
    torch.testing.assert_close(density.detach(), naive_radial(flows, rows.detach()), rtol=1e-6, atol=1e-6)


def test_radial_layers_with_beta_zero_are_the_identity():
    centers = normal(2, 3, 4)
    alpha, beta = torch.ones(2, 3, dtype=torch.float64), torch.zeros(2, 3, dtype=torch.float64)
    rows = normal(5, 4)
    expected = -0.5 * (rows.square().sum(1) + 4 * math.log(2 * math.pi))
    torch.testing.assert_close(
        radial_log_density(rows, centers, alpha, beta), expected[:, None].expand(-1, 2)
    )


# ---- layers -----------------------------------------------------------------------------------------


def test_actnorm_standardises_its_initial_batch():
    norm, rows = ActNorm(3).double(), 5 + 3 * normal(50, 3)
    rows[:, 1] = 7.0
    norm.initialize(rows)
    latent, _ = norm(rows)
    torch.testing.assert_close(latent.mean(0), torch.zeros(3, dtype=torch.float64), atol=1e-6, rtol=0)
    torch.testing.assert_close(
        latent.std(0, correction=0), torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64), atol=1e-6, rtol=0
    )


def test_initialising_a_flow_initialises_every_actnorm():
    flow = glow(4, 2, [8], generator=generator())
    rows = (normal(200, 4) @ normal(4, 4, seed=3)).float()
    flow.initialize(rows)
    for norm in (flow.flows[0], flow.flows[3]):
        assert norm.log_scale.abs().max().item() > 0.05


def test_the_invertible_matrix_is_initially_a_rotation():
    linear = InvertibleLinear(6, generator()).double()
    image, log_det = linear(torch.eye(6, dtype=torch.float64))
    torch.testing.assert_close(image @ image.T, torch.eye(6, dtype=torch.float64), atol=1e-5, rtol=0)
    torch.testing.assert_close(log_det, torch.zeros(6, dtype=torch.float64), atol=1e-5, rtol=0)


def test_a_coupling_of_one_feature_is_refused():
    with pytest.raises(UsageError, match="two features"):
        realnvp(1, 2, [8])


@pytest.mark.parametrize("training", [True, False])
def test_the_spectral_norm_is_bounded(training):
    torch.manual_seed(0)
    layer = LipschitzLinear(6, 9, 0.9)
    with torch.no_grad():
        layer.weight.mul_(10)
    layer.train(training)
    for _ in range(20):
        matrix = layer.matrix()
    assert torch.linalg.matrix_norm(matrix, 2).item() == pytest.approx(0.9, rel=1e-3)
    with torch.no_grad():
        layer.weight.mul_(1e-3)
    torch.testing.assert_close(layer.matrix(), layer.weight)


@pytest.mark.parametrize(("size", "width", "depth"), [(6, 4, 2), (4, 6, 2), (6, 4, 1), (5, 3, 3)])
def test_exact_log_det_of_a_residual_block(size, width, depth, monkeypatch):
    flow = ResidualFlow(size, 1, width, depth, generator=generator())
    block, rows = shaken(flow).flows[1], normal(5, size)
    matrices = block.weights(rows)
    _, slopes = block.residual(rows, matrices)
    jacobians = [torch.autograd.functional.jacobian(lambda x: block(x[None])[0][0], row) for row in rows]
    expected = torch.stack([torch.linalg.slogdet(jacobian).logabsdet for jacobian in jacobians])
    monkeypatch.setattr("featood.flows.residual.CHUNK_BYTES", 8 * width * size * 2)
    torch.testing.assert_close(exact_log_det(matrices, slopes), expected)


def test_the_series_is_unbiased():
    block = shaken(ResidualFlow(9, 1, 12, depth=1, terms=2, generator=generator())).flows[1]
    first, second = block.layers
    second.weight.data = first.weight.data.T.clone()  # a Jacobian without negative eigenvalues
    rows = normal(1, 9).expand(20_000, -1)
    with torch.no_grad():
        matrices = block.weights(rows)
        _, slopes = block.residual(rows, matrices)
        exact = float(exact_log_det(matrices, [slope[:1] for slope in slopes]))
        probes = 2.0 * torch.randint(0, 2, rows.shape, generator=generator()) - 1
        probes = probes.double()
        long = series_log_det(matrices, slopes, probes, 40)
        short = float(series_log_det(matrices, slopes, probes, 1).mean())
        draws, estimates = generator(), []
        for _ in range(40):
            estimates.append(block(rows[:500], draws)[1])
    assert abs(float(long.mean()) - exact) < 4 * float(long.std()) / 20_000**0.5
    assert abs(short - exact) > 0.01, "one term is not sufficient"
    means = torch.stack(estimates).mean(1)
    assert abs(float(means.mean()) - exact) < 4 * float(means.std()) / 40**0.5
