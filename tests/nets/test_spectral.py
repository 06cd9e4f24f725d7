"""Spectral norms against the singular values of the layers' matrices."""

import pytest
import torch
import torch.nn.functional as F
from draws import generator
from torch import nn

from featood.errors import UsageError
from featood.nets import NetOptions, bound_layers, create_net
from featood.nets.spectral import BoundedBatchNorm2d, SpectralConv2d, SpectralLinear


def matrix(layer, weight, size):
    """Return the matrix of a convolution without bias, by applying it to each unit vector."""
    units = torch.eye(layer.in_channels * size[0] * size[1], dtype=weight.dtype)
    images = units.view(-1, layer.in_channels, *size)
    out = F.conv2d(images, weight, None, layer.stride, layer.padding, layer.dilation, layer.groups)
    return out.flatten(1)


def norm(rows):
    return torch.linalg.svdvals(rows)[0].item()


def layer(made, seed=0, scale=1.0):
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator(seed)))
    return made


CONVOLUTIONS = {
    "3x3": (nn.Conv2d(3, 5, 3, padding=1), (6, 6)),
    "stride 2": (nn.Conv2d(3, 5, 3, stride=2, padding=1, bias=False), (6, 6)),
    "stride 2, odd": (nn.Conv2d(3, 5, 3, stride=2, padding=1), (7, 5)),
    "stride 3": (nn.Conv2d(2, 4, 3, stride=3, padding=1), (7, 8)),
    "5x5, no padding": (nn.Conv2d(2, 3, 5), (7, 7)),
    "depthwise": (nn.Conv2d(4, 4, 3, padding=1, groups=4), (5, 5)),
    "dilated": (nn.Conv2d(2, 3, 3, padding=2, dilation=2), (6, 6)),
    "1x1": (nn.Conv2d(4, 6, 1), (5, 5)),
    "1x1, stride 2": (nn.Conv2d(4, 6, 1, stride=2), (5, 6)),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("coeff", [0.7, 3.0, 1000.0])
def test_convolutions_against_singular_values(name, coeff):
    conv, size = CONVOLUTIONS[name]
    bounded = SpectralConv2d(layer(conv), coeff)
    x = torch.randn(2, conv.in_channels, *size, generator=generator(1))
    for _ in range(200):
        bounded(x)
    exact = norm(matrix(conv, conv.weight, size))
    assert bounded.sigma().item() == pytest.approx(exact, rel=1e-3)
    weight = bounded.bounded(x)
    assert norm(matrix(conv, weight, size)) <= coeff * (1 + 1e-3)
    if exact <= coeff:
        assert torch.equal(weight, conv.weight)
    else:
        torch.testing.assert_close(weight, conv.weight * coeff / exact, rtol=2e-3, atol=0)
    out = F.conv2d(x, weight, conv.bias, conv.stride, conv.padding, conv.dilation, conv.groups)
    torch.testing.assert_close(bounded.eval()(x), out, rtol=1e-4, atol=1e-5)


def test_linear_layers_against_singular_values():
    linear = layer(nn.Linear(7, 4))
    bounded = SpectralLinear(linear, 1.5, 3)
    x = torch.randn(2, 7, generator=generator(1))
    for _ in range(100):
        bounded(x)
    exact = norm(linear.weight)
    assert bounded.sigma().item() == pytest.approx(exact, rel=1e-4)
    torch.testing.assert_close(bounded.eval()(x), x @ linear.weight.T * 1.5 / exact + linear.bias)


def test_the_gradient_is_that_of_the_normalised_weight():
    conv = layer(nn.Conv2d(2, 3, 3, padding=1)).double()
    bounded = SpectralConv2d(conv, 0.5)
    x = torch.randn(2, 2, 5, 5, generator=generator(1), dtype=torch.float64)
    for _ in range(500):
        bounded(x)
    bounded(x).square().sum().backward()
    weight = conv.weight.detach().clone().requires_grad_()
    sigma = torch.linalg.svdvals(matrix(conv, weight, (5, 5)))[0]
    F.conv2d(x, weight / (sigma / 0.5), conv.bias, padding=1).square().sum().backward()
    torch.testing.assert_close(conv.weight.grad, weight.grad, rtol=1e-5, atol=1e-8)


def test_vectors_change_in_training_mode_only():
    bounded = SpectralConv2d(layer(nn.Conv2d(2, 3, 3)))
    x = torch.randn(1, 2, 6, 6, generator=generator())
    bounded(x)
    before = bounded.weight_v.clone()
    bounded.eval()(x)
    assert torch.equal(bounded.weight_v, before)
    bounded.train()(x)
    assert not torch.equal(bounded.weight_v, before)


def test_one_iteration_per_pass_is_a_step_of_the_power_method():
    bounded = SpectralLinear(layer(nn.Linear(4, 3)), power_iterations=2)
    x = torch.randn(1, 4, generator=generator())
    bounded(x)
    w, u = bounded.weight.detach(), bounded.weight_u[0].clone()
    for _ in range(2):
        v = F.normalize(w.T @ u, dim=0)
        u = F.normalize(w @ v, dim=0)
    bounded(x)
    torch.testing.assert_close(bounded.weight_u[0], u)
    torch.testing.assert_close(bounded.sigma(), u @ w @ v)


def test_several_passes_before_the_gradients():
    bounded = SpectralConv2d(layer(nn.Conv2d(2, 3, 3)), 0.1)
    x = torch.randn(1, 2, 6, 6, generator=generator())
    (bounded(x).sum() + bounded(2 * x).sum()).backward()
    assert bounded.weight.grad.isfinite().all()


def test_the_size_is_that_of_the_first_input_and_is_stored():
    conv = layer(nn.Conv2d(2, 3, 3, padding=1))
    bounded = SpectralConv2d(conv, 0.5)
    bounded(torch.randn(1, 2, 6, 4, generator=generator()))
    assert bounded.weight_v.shape == (1, 2, 6, 4) and bounded.weight_u.shape == (1, 3, 6, 4)
    other = SpectralConv2d(layer(nn.Conv2d(2, 3, 3, padding=1), seed=5), 0.5).eval()
    other.load_state_dict(bounded.state_dict())
    for size in (6, 9):
        x = torch.randn(2, 2, size, size, generator=generator())
        assert torch.equal(other(x), bounded.eval()(x))
    state = {**bounded.state_dict(), "weight_v": torch.zeros(1, 5, 6, 4)}
    with pytest.raises(RuntimeError, match="size mismatch for weight_v"):
        other.load_state_dict(state)


def test_a_state_from_before_the_first_input_is_restored():
    torch.manual_seed(0)
    layer = SpectralLinear(nn.Linear(4, 3), 1.0)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    x = torch.randn(5, 4)
    expected = layer(x)
    assert layer.weight_v.shape == (1, 4)
    layer.load_state_dict(before)
    assert not layer.weight_v.numel()
    torch.testing.assert_close(layer(x), expected)


def test_a_zero_weight_stays_zero():
    bounded = SpectralConv2d(nn.Conv2d(2, 3, 3))
    nn.init.zeros_(bounded.weight)
    bounded(torch.ones(1, 2, 5, 5)).sum().backward()
    assert bounded.weight.grad.isfinite().all() and not bounded.bounded(torch.ones(1, 2, 5, 5)).any()


def test_sigma_keeps_its_precision_under_autocast():
    bounded = SpectralConv2d(layer(nn.Conv2d(2, 3, 3)), 0.5)
    x = torch.randn(1, 2, 6, 6, generator=generator())
    with torch.autocast("cpu", torch.bfloat16):
        for _ in range(100):
            bounded(x)
        assert bounded(x).dtype == torch.bfloat16
        sigma = bounded.bounded(x).dtype, bounded.sigma().item()
    assert bounded.weight_v.dtype == torch.float32 == sigma[0]
    assert norm(matrix(bounded, bounded.bounded(x).detach(), (6, 6))) == pytest.approx(0.5, rel=1e-3)


def test_vectors_made_in_inference_mode_can_be_trained():
    bounded = SpectralConv2d(layer(nn.Conv2d(2, 3, 3)))
    x = torch.randn(1, 2, 6, 6, generator=generator())
    with torch.inference_mode():
        bounded.eval()(x)
    bounded.train()(x).sum().backward()
    assert bounded.weight.grad.isfinite().all()


@pytest.mark.parametrize("coeff", [0.3, 100.0])
def test_bounded_batch_normalisation_against_the_formula(coeff):
    norms = layer(nn.BatchNorm2d(4), scale=2.0)
    norms.running_var.uniform_(0.1, 2, generator=generator(3))
    bounded = BoundedBatchNorm2d(norms, coeff)
    assert bounded.momentum == 0.01
    x = torch.randn(8, 4, 3, 3, generator=generator(1))
    lipschitz = max(
        abs(w) / (v + norms.eps) ** 0.5
        for w, v in zip(norms.weight.tolist(), norms.running_var.tolist(), strict=True)
    )
    scale = norms.weight / max(1, lipschitz / coeff)
    for training in (False, True):
        bounded.train(training)
        mean = x.mean((0, 2, 3)) if training else bounded.running_mean
        var = x.var((0, 2, 3), correction=0) if training else bounded.running_var
        want = scale[:, None, None] * (x - mean[:, None, None]) / (var + norms.eps).sqrt()[:, None, None]
        torch.testing.assert_close(bounded(x), want + norms.bias[:, None, None], rtol=1e-4, atol=1e-5)
    assert bounded.num_batches_tracked == 1
    bounded(x).square().sum().backward()
    assert norms.weight.grad.isfinite().all()


def kinds(net):
    return [
        (name, type(module))
        for name, module in net.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    ]


def test_which_layers_of_a_network_are_bounded():
    plain = create_net("cifar-resnet18", 10)
    net = create_net("cifar-resnet18", 10, sn=True, coeff=2.0, power_iterations=3)
    assert [kind for _, kind in kinds(net)] == [SpectralConv2d] * 20 + [nn.Linear]
    assert {type(m) for m in net.modules() if isinstance(m, nn.BatchNorm2d)} == {nn.BatchNorm2d}
    assert (net.conv1.coeff, net.conv1.power_iterations) == (2.0, 3)
    weights = dict(net.named_parameters())
    assert all(torch.equal(value, weights[name]) for name, value in plain.named_parameters())
    assert type(create_net("cifar-resnet18", 10, sn=True, linear=True).fc) is SpectralLinear
    soft = create_net("wrn-10-1", 10, soft_norm=True)
    assert {type(m) for m in soft.modules() if isinstance(m, nn.BatchNorm2d)} == {BoundedBatchNorm2d}
    assert type(soft.conv1) is nn.Conv2d
    hidden = create_net("vggm", 10, sn=True)
    assert [kind for _, kind in kinds(hidden)][-3:] == [SpectralLinear, SpectralLinear, nn.Linear]


def test_layers_that_cannot_be_bounded():
    class Other(nn.Conv2d):
        pass

    sn, soft = NetOptions(sn=True), NetOptions(soft_norm=True)
    for conv in (
        Other(3, 3, 3),
        nn.Conv2d(3, 3, 3, padding="same"),
        nn.Conv2d(3, 3, 3, padding_mode="circular"),
    ):
        with pytest.raises(UsageError, match=r"sn does not support 0 of mine, a (Other|Conv2d)"):
            bound_layers(nn.Sequential(conv, nn.Linear(3, 2)), sn, "mine")
    with pytest.raises(UsageError, match="which lenet does not use"):
        create_net("lenet", 10, soft_norm=True)
    with pytest.raises(UsageError, match="soft_norm does not support 0 of mine, a BatchNorm1d"):
        bound_layers(nn.Sequential(nn.BatchNorm1d(3)), soft, "mine")


def test_networks_of_libraries():
    from featood.extractors.trainer import Architecture

    net = Architecture("tv:resnet18", {"sn": True, "zero_init_residual": True}).make(5, 3)
    assert type(net.conv1) is SpectralConv2d and not net.layer1[0].bn2.weight.any()
    net = Architecture("timm:resnet10t", {"sn": True, "drop_rate": 0.1}).make(5, 1)
    assert type(net.layer1[0].conv1) is SpectralConv2d and net.drop_rate == 0.1
    assert net(torch.randn(2, 1, 32, 32, generator=generator())).shape == (2, 5)
    for options, text in (({"sn": "yes"}, "sn takes true or false"), ({"depht": 2}, "cannot be made with")):
        with pytest.raises(UsageError, match=text):
            Architecture("tv:resnet18", options).make(5, 3)
