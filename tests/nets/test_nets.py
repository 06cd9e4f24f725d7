import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from draws import generator
from torch import nn

from featood.errors import UsageError
from featood.extractors.weights import load_weights
from featood.nets import MLP, create_net, is_net, list_nets, net_defaults, seeded
from featood.nets.cifar_resnet import CifarResNet, PadShortcut
from featood.nets.mlp import ACTIVATIONS
from featood.nets.small_resnet import SmallResNet

# name: penultimate width, number of parameters as rounded in the papers (or exact), and half the last digit
NETS = {
    "cifar-resnet20": (64, 0.27e6, 0.005e6),
    "cifar-resnet32": (64, 0.46e6, 0.005e6),
    "cifar-resnet44": (64, 0.66e6, 0.005e6),
    "cifar-resnet56": (64, 0.85e6, 0.005e6),
    "cifar-resnet110": (64, 1.7e6, 0.05e6),
    "cifar-resnet18": (512, 11.17e6, 0.005e6),
    "cifar-resnet34": (512, 21.28e6, 0.005e6),
    "cifar-resnet50": (2048, 23.52e6, 0.005e6),
    "wrn-16-4": (256, 2.7e6, 0.05e6),
    "wrn-28-10": (640, 36.5e6, 0.05e6),
    "wrn-40-2": (128, 2.2e6, 0.05e6),
    "densenet-100-12": (342, 0.77e6, 0.005e6),
    "cifar-vgg11": (512, 9.23e6, 0.005e6),
    "cifar-vgg13": (512, 9.42e6, 0.005e6),
    "cifar-vgg16": (512, 14.73e6, 0.005e6),
    "cifar-vgg19": (512, 20.04e6, 0.005e6),
    "vggm": (1024, 8_579_850, 0),
    "conv4-32": (64, 1_216 + 4_640 + 18_496 + 36_928 + 16_448 + 650, 0),
    "lenet": (84, 61_706, 0),
    "mnist-convnet": (50, 21_840, 0),
    "mnist-conv": (500, 816_910, 0),
}


def randomise_statistics(net, seed=0):
    """Set random statistics, so that a wrong order or a missing normalisation changes the result."""
    g = generator(seed)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3, generator=g)
            module.running_var.uniform_(0.5, 2.0, generator=g)
            with torch.no_grad():
                module.weight.uniform_(0.5, 1.5, generator=g)
                module.bias.normal_(0, 0.3, generator=g)
    return net.eval()


def test_every_listed_net_is_in_the_table():
    assert sorted(list_nets()) == sorted(NETS)


@pytest.mark.parametrize("name", NETS)
def test_contract_of_every_net(name):
    width, parameters, tolerance = NETS[name]
    net = create_net(name, 10).eval()
    assert sum(p.numel() for p in net.parameters()) == pytest.approx(parameters, abs=tolerance)

    calls = dict.fromkeys((m for m in net.modules() if not list(m.children())), 0)
    seen = {}

    def count(module, inputs, output):
        calls[module] += 1
        if isinstance(module, nn.Linear):
            seen["last"] = module, inputs[0]

    for module in calls:
        module.register_forward_hook(count)
    defaults = net_defaults(name)
    size = defaults.image_size
    images = torch.rand(2, defaults.in_channels, size, size, generator=generator())
    with torch.no_grad():
        logits = net(images)
    classifier, features = seen["last"]
    assert logits.shape == (2, 10)
    assert features.shape == (2, width)
    torch.testing.assert_close(logits, features @ classifier.weight.T + classifier.bias)
    # hooks need each layer to be used once, and activations to be modules
    assert set(calls.values()) == {1}
    assert any(isinstance(m, nn.ReLU | nn.SiLU) or type(m).__name__ == "SigmoidGelu" for m in calls)
    assert logits.isfinite().all()


@pytest.mark.parametrize("name", ["cifar-resnet20", "wrn-10-1", "densenet-10-4", "cifar-vgg16", "lenet"])
def test_channels_classes_and_gradients(name):
    size = net_defaults(name).image_size
    net = create_net(name, 7, in_channels=2)
    net(torch.rand(3, 2, size, size, generator=generator())).logsumexp(1).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("in_channels, out_channels, stride", [(4, 8, 2), (3, 8, 1), (2, 7, 3), (5, 5, 2)])
def test_pad_shortcut_against_a_loop(in_channels, out_channels, stride):
    x = torch.rand(2, in_channels, 7, 6, generator=generator())
    offset = (out_channels - in_channels) // 2
    rows, columns = range(0, 7, stride), range(0, 6, stride)
    want = np.zeros((2, out_channels, len(rows), len(columns)), dtype=np.float32)
    for b, c, (i, row), (j, column) in itertools.product(
        range(2), range(in_channels), enumerate(rows), enumerate(columns)
    ):
        want[b, offset + c, i, j] = x[b, c, row, column]
    got = PadShortcut(in_channels, out_channels, stride)(x)
    np.testing.assert_array_equal(got.numpy(), want)


@pytest.mark.parametrize("depth", [18, 34, 50])
def test_small_resnet_against_torchvision(depth):
    from featood.extractors.vision import torchvision

    net = randomise_statistics(create_net(f"cifar-resnet{depth}", 10))
    peer = getattr(torchvision.models, f"resnet{depth}")(num_classes=10)
    peer.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
    peer.maxpool = nn.Identity()
    peer.load_state_dict(net.state_dict())
    x = torch.rand(2, 3, 16, 16, generator=generator())
    with torch.no_grad():
        torch.testing.assert_close(net(x), peer.eval()(x))


@pytest.mark.parametrize("depth, letter", [(11, "A"), (13, "B"), (16, "D"), (19, "E")])
def test_vgg_against_torchvision(depth, letter):
    from featood.extractors.vision import torchvision

    vgg = torchvision.models.vgg
    net = randomise_statistics(create_net(f"cifar-vgg{depth}", 10))
    peer = vgg.make_layers(vgg.cfgs[letter], batch_norm=True).eval()
    peer.load_state_dict(net.features.state_dict())
    x = torch.rand(2, 3, 32, 32, generator=generator())
    with torch.no_grad():
        torch.testing.assert_close(net(x), net.classifier(peer(x).flatten(1)))


@pytest.mark.parametrize("depth, width", [(10, 1), (16, 2)])
def test_wide_resnet_against_the_paper(depth, width):
    net = randomise_statistics(create_net(f"wrn-{depth}-{width}", 5))
    w = net.state_dict()

    def act(name, x):
        return F.relu(
            F.batch_norm(
                x, *(w[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
            )
        )

    x = torch.rand(2, 3, 16, 16, generator=generator())
    out = F.conv2d(x, w["conv1.weight"], padding=1)
    for stage, block in itertools.product((1, 2, 3), range((depth - 4) // 6)):
        name = f"block{stage}.layer.{block}"
        stride = 2 if stage > 1 and block == 0 else 1
        first = act(f"{name}.bn1", out)
        hidden = F.conv2d(first, w[f"{name}.conv1.weight"], stride=stride, padding=1)
        hidden = F.conv2d(act(f"{name}.bn2", hidden), w[f"{name}.conv2.weight"], padding=1)
        projection = w.get(f"{name}.convShortcut.weight")
        out = hidden + (out if projection is None else F.conv2d(first, projection, stride=stride))
    logits = act("bn1", out).mean((2, 3)) @ w["fc.weight"].T + w["fc.bias"]
    with torch.no_grad():
        torch.testing.assert_close(net(x), logits)


def test_wide_resnet_dropout_acts_in_training_only():
    net = create_net("wrn-10-1", 10, dropout=0.5)
    x = torch.rand(2, 3, 16, 16, generator=generator())
    with torch.no_grad(), seeded():
        assert not torch.equal(net(x), net(x))
        net.eval()
        assert torch.equal(net(x), net(x))


def test_convnet_activation():
    net = create_net("mnist-convnet", 10).eval()
    x = torch.linspace(-4, 4, 9, dtype=torch.float64)
    want = [v / (1 + np.exp(-1.702 * v)) for v in x.tolist()]
    np.testing.assert_allclose(net.act3(x).numpy(), want, rtol=1e-12)


def accuracy_count(net, images, labels, mean, std):
    x = torch.from_numpy(images if images.ndim == 4 else images[..., None]).permute(0, 3, 1, 2) / 255
    x = (x - torch.tensor(mean).view(-1, 1, 1)) / torch.tensor(std).view(-1, 1, 1)
    with torch.no_grad():
        return int((net.eval()(x).argmax(1) == torch.from_numpy(labels)).sum())


HE = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
DENSE = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


# Correct predictions on the first rows. On all 10,000, the first two give 9,173 and 9,339, as published.
@pytest.mark.parametrize(
    "name, classes, file, dataset, statistics, rows, right",
    [
        ("cifar-resnet20", 10, "resnet20-12fca82f.th", "cifar10", HE, 500, 469),
        ("cifar-resnet56", 10, "resnet56-4bfd9763.th", "cifar10", HE, 300, 281),
        ("densenet-100-12", 10, "densenet100-12_cifar10.pth.tar", "cifar10", DENSE, 100, 94),
        ("densenet-100-12", 100, "densenet100-12_cifar100.pth.tar", "cifar100", DENSE, 100, 74),
    ],
)
def test_published_weights_on_cifar(test_data, name, classes, file, dataset, statistics, rows, right):
    net = create_net(name, classes)
    load_weights(net, test_data / "weights" / file)
    with np.load(test_data / dataset / "test.npz") as data:
        images, labels = data["images"][:rows], data["labels"][:rows]
    assert accuracy_count(net, images, labels, *statistics) == right


@pytest.mark.parametrize(
    "file, wrong", [("baseline_epoch_9", 94), ("oe_tune_epoch_4", 92), ("oe_scratch_epoch_9", 103)]
)
def test_published_weights_on_mnist(test_data, file, wrong):
    net = create_net("mnist-convnet", 10)
    load_weights(net, test_data / "weights" / "mnist-outlier-exposure" / f"{file}.pt")
    with np.load(test_data / "mnist" / "test.npz") as data:
        assert accuracy_count(net, data["images"], data["labels"], (0.0,), (1.0,)) == 10_000 - wrong


def same(a, b):
    return all(
        torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


def test_initial_weights_depend_only_on_the_generator():
    before = torch.get_rng_state()
    g = generator(3)
    first, second = create_net("lenet", 10, generator=g), create_net("lenet", 10, generator=g)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(5)  # a different global state must not change the weights
    with torch.device("meta"):
        again = create_net("lenet", 10, generator=generator(3))
    assert same(first, again)
    assert not same(first, second)
    assert not same(first, create_net("lenet", 10, generator=generator(4)))
    assert same(create_net("lenet", 10), create_net("lenet", 10))


def test_the_global_state_is_restored_after_an_error():
    before = torch.get_rng_state()
    with pytest.raises(RuntimeError), seeded(generator()):
        torch.rand(3)
        raise RuntimeError
    assert torch.equal(torch.get_rng_state(), before)


def test_he_initialisation():
    net = create_net("cifar-resnet18", 10)
    weight = net.layer4[1].conv2.weight
    assert weight.std().item() == pytest.approx((2 / (9 * 512)) ** 0.5, rel=0.01)
    assert not net.fc.bias.any()


def test_names():
    assert is_net("wrn-22-8") and is_net("densenet-40-24") and is_net("cifar-resnet110")
    assert is_net("cifar-resnet1202") and is_net("cifar-resnet8") and not is_net("cifar-resnet")
    assert type(create_net("cifar-resnet50", 10)) is SmallResNet  # although 50 is 6n + 2
    assert len(create_net("cifar-resnet26", 10).layer1) == 4
    assert not is_net("resnet50") and not is_net("wrn-22") and not is_net("lenet5") and not is_net("")
    assert net_defaults("lenet") == net_defaults("mnist-convnet")
    assert (net_defaults("lenet").in_channels, net_defaults("lenet").image_size) == (1, 28)
    assert (net_defaults("wrn-22-8").in_channels, net_defaults("wrn-22-8").image_size) == (3, 32)


def test_the_error_for_an_unknown_name_lists_known_names_and_the_closest():
    for function in (net_defaults, lambda name: create_net(name, 10)):
        with pytest.raises(UsageError, match="did you mean wrn-40-2") as error:
            function("wrn40-2")
        assert all(name in str(error.value) for name in NETS)
        assert "\n" not in str(error.value)
    with pytest.raises(UsageError) as error:
        create_net("zzz", 10)
    assert "did you mean" not in str(error.value)


@pytest.mark.parametrize(
    "name",
    [
        "wrn-27-10", "wrn-4-1", "wrn-16-0", "densenet-101-12", "densenet-4-3", "densenet-10-0",
        "cifar-resnet21", "cifar-resnet2", "cifar-resnet10",
    ],
)  # fmt: skip
def test_invalid_numbers_in_a_name(name):
    with pytest.raises(UsageError, match="depth of 6n"):
        create_net(name, 10)


def test_invalid_arguments():
    with pytest.raises(UsageError, match="at least one class"):
        create_net("lenet", 0)
    with pytest.raises(UsageError, match="at least one class"):
        create_net("lenet", 10, in_channels=0)
    with pytest.raises(UsageError, match="got 21"):
        CifarResNet(21)
    with pytest.raises(UsageError, match="not 19"):
        SmallResNet(19)
    with pytest.raises(UsageError, match="11, 13, 16 or 19, not 15"):
        create_net("cifar-vgg15", 10)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("hidden", [(), (5,), (5, 3)])
def test_mlp_against_a_loop(activation, hidden):
    formulas = {
        "elu": lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))),
        "gelu": lambda z: (
            z * np.vectorize(lambda v: 0.5 * (1 + torch.erf(torch.tensor(v / 2**0.5)).item()))(z)
        ),
        "leaky_relu": lambda z: np.where(z > 0, z, 0.2 * z),
        "relu": lambda z: np.maximum(z, 0),
        "silu": lambda z: z / (1 + np.exp(-z)),
        "softplus": lambda z: np.log1p(np.exp(z)),
        "tanh": np.tanh,
    }
    net = MLP(4, hidden, 2, activation, generator=generator(1)).double()
    x = torch.randn(6, 4, generator=generator(2), dtype=torch.float64)
    parameters = [p.detach().numpy() for p in net.parameters()]
    assert len(parameters) == 2 * (len(hidden) + 1)
    out = x.numpy()
    for layer in range(len(hidden) + 1):
        if layer:
            out = formulas[activation](out)
        out = out @ parameters[2 * layer].T + parameters[2 * layer + 1]
    np.testing.assert_allclose(net(x).detach().numpy(), out, rtol=1e-6, atol=1e-9)


def test_mlp_is_reproducible_and_checked():
    before = torch.get_rng_state()
    assert same(MLP(3, [4], 1, generator=generator(5)), MLP(3, [4], 1, generator=generator(5)))
    assert not same(MLP(3, [4], 1, generator=generator(5)), MLP(3, [4], 1))
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(UsageError, match=r"unknown activation 'swish'.*silu"):
        MLP(3, [4], 1, "swish")
    with pytest.raises(UsageError, match="at least one unit"):
        MLP(3, [0], 1)
