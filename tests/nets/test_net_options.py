"""Options of networks, against PyTorch's functions and torchvision's networks."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from draws import generator
from test_nets import NETS, randomise_statistics
from torch import nn

from featood.errors import UsageError
from featood.nets import NetOptions, create_net, net_options, parse_options
from featood.nets.layers import PoolShortcut
from featood.nets.wide_resnet import WideResNetOptions


def images(size=16, channels=3):
    return torch.rand(2, channels, size, size, generator=generator())


def count(net):
    return sum(parameter.numel() for parameter in net.parameters())


@pytest.mark.parametrize("name", NETS)
def test_every_net_lists_its_options_and_takes_their_defaults(name):
    defaults = {option.name: option.default for option in net_options(name)}
    assert {"sn", "coeff", "power_iterations", "linear", "soft_norm"} <= defaults.keys()
    assert all(option.help for option in net_options(name))
    if NETS[name][1] < 3e6:
        assert count(create_net(name, 10, **defaults)) == count(create_net(name, 10))


@pytest.mark.parametrize(
    "options, text",
    [
        ({"sn": 1}, "wrn-16-4: sn takes true or false, not 1"),
        ({"sn": "yes"}, "wrn-16-4: sn takes true or false, not 'yes'"),
        ({"dropout": "much"}, "wrn-16-4: dropout takes a number, not 'much'"),
        ({"dropout": 1.0}, "dropout must be at least 0 and at most 0.99, not 1.0"),
        ({"dropout": float("nan")}, "dropout must be at least 0"),
        ({"coeff": 0}, "coeff must be at least 1e-06, not 0"),
        ({"power_iterations": 0}, "power_iterations must be at least 1"),
        ({"power_iterations": 1.5}, "power_iterations takes a whole number"),
        ({"norm": "spectral"}, "norm must be one of batch, instance, layer, group, none"),
        ({"strides": [1, 2]}, "strides are three numbers"),
        ({"strides": "1,2,0"}, "strides are three numbers"),
        ({"strides": "1,x"}, "wrn-16-4: strides takes values such as 1,2,2"),
        ({"strides": 2}, "wrn-16-4: strides takes values such as 1,2,2"),
        ({"depth": 3}, "wrn-16-4 has no option 'depth' \\(it has: sn, coeff"),
        ({"linear": True}, "linear=true .* needs sn=true"),
        ({"negative_linear": True, "bottleneck_dim": 4}, "so no bottleneck_dim"),
    ],
)
def test_wrong_options_are_one_line(options, text):
    with pytest.raises(UsageError, match=text) as error:
        create_net("wrn-16-4", 10, **options)
    assert "\n" not in str(error.value)


def test_options_of_one_network_are_not_those_of_another():
    with pytest.raises(UsageError, match="lenet has no option 'dropout'"):
        create_net("lenet", 10, dropout=0.1)


def test_texts_and_lists_become_tuples():
    for value in ("1,1,2", [1, 1, 2], (1, 1, 2)):
        assert parse_options(WideResNetOptions, {"strides": value}, "wrn").strides == (1, 1, 2)
    assert parse_options(NetOptions, {"coeff": 2}, "any").coeff == 2


@pytest.mark.parametrize("size", [6, 7])
@pytest.mark.parametrize("stride", [1, 2])
def test_pool_shortcut_against_a_loop(size, stride):
    x = images(size)
    half = -(-size // stride)
    want = torch.zeros(2, 5, half, half)
    step = stride if size % stride == 0 else 1
    for row, column in itertools.product(range(half), range(half)):
        patch = x[:, :, row * stride : row * stride + step, column * stride : column * stride + step]
        want[:, :3, row, column] = patch.mean((2, 3))
    torch.testing.assert_close(PoolShortcut(3, 5, stride)(x), want)


@pytest.mark.parametrize("depth, parameters", [(18, 11_000_138), (50, 20_744_266)])
def test_mod_of_a_small_resnet_against_torchvision(depth, parameters):
    """The numbers of parameters are those of DDU's networks."""
    from featood.extractors.vision import torchvision

    net = randomise_statistics(create_net(f"cifar-resnet{depth}", 10, mod=True))
    assert count(net) == parameters
    peer = getattr(torchvision.models, f"resnet{depth}")(num_classes=10)
    peer.conv1, peer.maxpool = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()
    for module in list(peer.modules()):
        if hasattr(module, "relu"):
            module.relu = nn.LeakyReLU()
        if getattr(module, "downsample", None) is not None:
            conv = module.downsample[0]
            more = conv.out_channels - conv.in_channels
            pool = nn.AvgPool2d(conv.stride[0]) if conv.stride[0] > 1 else nn.Identity()
            module.downsample = nn.Sequential(pool, nn.ZeroPad3d((0, 0, 0, 0, 0, more)))
    peer.load_state_dict(net.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(net(images()), peer.eval()(images()))


def test_ddu_vgg():
    net = create_net("cifar-vgg16", 10, mod=True, bias=False)
    assert count(net) == 14_724_042  # of DDU's network
    assert {type(m) for m in net.features if not list(m.parameters())} == {nn.LeakyReLU, nn.MaxPool2d}
    assert {m.negative_slope for m in net.features if isinstance(m, nn.LeakyReLU)} == {0.01}


# as the published networks are put together
@pytest.mark.parametrize(
    "options",
    [
        {"mod": True},
        {"shortcut": "none", "norm_momentum": 0.01},
        {"norm": "none", "slope": 0.2, "bias": True, "late_stride": True, "shortcut": "all"},
        {"norm": "layer", "slope": 0.2, "bias": True, "first_norm": False, "shortcut": "none"},
        {"norm": "instance", "sum_pool": True, "strides": (1, 1, 2)},
        {"norm": "group", "negative_linear": True, "slope": 0.2},
        {"bottleneck_channels_factor": 0.1, "bottleneck_dim": 3},
    ],
    ids=lambda options: ",".join(options),
)
def test_wide_resnets_against_the_formula(options):
    net = randomise_statistics(create_net("wrn-10-2", 5, **options))
    w = net.state_dict()
    norm, late, taken = (options.get(key, value) for key, value in
                         (("norm", "batch"), ("late_stride", False), ("shortcut", "projection")))  # fmt: skip
    slope = options.get("slope", 0.01 if options.get("mod") else 0.0)

    def normalise(name, x):
        if norm == "none" or (name == "block1.layer.0.bn1" and options.get("first_norm") is False):
            return x
        scale, shift = w[f"{name}.weight"], w[f"{name}.bias"]
        if norm == "batch":
            return F.batch_norm(x, w[f"{name}.running_mean"], w[f"{name}.running_var"], scale, shift)
        if norm == "instance":
            return F.instance_norm(x, weight=scale, bias=shift)
        return F.group_norm(x, 1 if norm == "layer" else min(32, x.shape[1]), scale, shift)

    def conv(name, x, stride):
        weight = w[f"{name}.weight"]
        return F.conv2d(x, weight, w.get(f"{name}.bias"), stride, weight.shape[-1] // 2)

    x = conv("conv1", images(), 1)
    for stage, stride in enumerate(options.get("strides", (1, 2, 2)), 1):
        name = f"block{stage}.layer.0"
        active = F.leaky_relu(normalise(f"{name}.bn1", x), slope)
        out = conv(f"{name}.conv1", active, 1 if late else stride)
        out = F.leaky_relu(normalise(f"{name}.bn2", out), slope)
        out = conv(f"{name}.conv2", out, stride if late else 1)
        if options.get("mod"):
            small = F.avg_pool2d(x, stride)
            x = out + torch.cat([small, torch.zeros_like(out)[:, small.shape[1] :]], 1)
        else:
            x = out + conv(f"{name}.convShortcut", x if taken == "none" else active, stride)
        if options.get("bottleneck_channels_factor"):
            x = conv(f"block{stage}.layer.2", conv(f"block{stage}.layer.1", x, 1), 1)
    x = F.leaky_relu(normalise("bn1", x), 0.0 if options.get("negative_linear") else slope)
    x = x.sum((2, 3)) if options.get("sum_pool") else x.mean((2, 3))
    if options.get("bottleneck_dim"):
        for number in (0, 2, 4, 6):
            x = F.linear(x, w[f"bottleneck.{number}.weight"], w[f"bottleneck.{number}.bias"])
            x = x.relu() if number < 6 else x
    weight = -w["fc.weight"].exp() if options.get("negative_linear") else w["fc.weight"]
    with torch.no_grad():
        torch.testing.assert_close(net(images()), x @ weight.T + w["fc.bias"], rtol=1e-4, atol=1e-5)


def test_all_shortcuts_of_a_wide_resnet_after_the_activation():
    net = create_net("wrn-16-1", 5, norm="none", shortcut="all").eval()
    block, x = net.block1.layer[1], images(8, 16) - 0.5
    want = F.relu(x)
    want = want + block.conv2(F.relu(block.conv1(want)))
    torch.testing.assert_close(block(x), want)


def test_numbers_of_parameters_of_published_networks():
    """Those of DDU's WRN-28-10 with mod, and of WRN-16-8 without normalisation, as their code builds them."""
    assert count(create_net("wrn-28-10", 10, mod=True, dropout=0.3)) == 36_220_634
    assert count(create_net("wrn-16-8", 10, norm="none", bias=True)) == 10_958_666


def test_logits_fall_along_any_ray_with_a_negative_last_layer():
    net = create_net("wrn-10-1", 4, negative_linear=True, norm="none").eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator(1)))
    scales = torch.logspace(0, 4, 5)
    with torch.no_grad():
        logits = torch.stack([net(scale * images()) for scale in scales])
    assert (logits.diff(dim=0)[1:] < 0).all()


@pytest.mark.parametrize("name, layers", [("densenet-10-4", 8), ("wrn-10-1", 3)])
def test_dropout(name, layers):
    net, plain = create_net(name, 5, dropout=0.5), create_net(name, 5).eval()
    drops = [module.p for module in net.modules() if isinstance(module, nn.Dropout)]
    assert drops == [0.5] * layers
    with torch.no_grad():
        assert torch.equal(net.eval()(images()), plain(images()))
        assert not torch.equal(net.train()(images()), net(images()))


@pytest.mark.parametrize(
    "name, options",
    [
        ("cifar-resnet18", {"sn": True, "mod": True, "soft_norm": True}),
        ("cifar-resnet20", {"sn": True}),
        ("wrn-10-1", {"sn": True, "mod": True, "dropout": 0.3, "linear": True, "coeff": 1.0}),
        ("wrn-10-1", {"norm": "none", "slope": 0.2, "bias": True, "bottleneck_dim": 4, "sn": True}),
        ("wrn-10-1", {"negative_linear": True, "sum_pool": True, "sn": True, "linear": True}),
        ("densenet-10-4", {"sn": True, "dropout": 0.2}),
        ("cifar-vgg11", {"sn": True, "mod": True, "bias": False}),
        ("vggm", {"sn": True}),
        ("mnist-conv", {"sn": True, "power_iterations": 2}),
        ("lenet", {"sn": True, "linear": True}),
        ("mnist-convnet", {"sn": True}),
    ],
)
def test_gradients_and_state_dicts(name, options):
    size, channels = (28, 1) if NETS.get(name, (0, 0, 1))[2] == 0 and name != "vggm" else (32, 3)
    net = create_net(name, 4, **options)
    net(images(size, channels)).logsumexp(1).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    other = create_net(name, 4, generator=generator(9), **options)
    other.load_state_dict(net.state_dict())
    assert torch.equal(other.eval()(images(size, channels)), net.eval()(images(size, channels)))
