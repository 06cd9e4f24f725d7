"""Checkpoints with the names and shapes of other code, compared with forward passes written from these names alone."""

import pytest
import torch
import torch.nn.functional as F

from featood.errors import Mismatch, UsageError
from featood.extractors.backbones import resolve_backbone
from featood.nets import create_net

SLOPE = 0.01


class Names:
    """Makes tensors by the names of a checkpoint."""

    def __init__(self, seed=0):
        self.generator = torch.Generator().manual_seed(seed)
        self.state = {}

    def draw(self, *shape):
        return torch.randn(*shape, generator=self.generator)

    def norm(self, name, width):
        for key in ("weight", "bias", "running_mean"):
            self.state[f"{name}.{key}"] = self.draw(width) * 0.3
        self.state[f"{name}.running_var"] = self.draw(width).abs() + 0.5
        self.state[f"{name}.num_batches_tracked"] = torch.tensor(7)

    def conv(self, name, out, into, size, side=None, stride=1, bias=False):
        """Add a convolution, with spectral normalisation for inputs of `side` pixels if `side` is given."""
        weight = self.draw(out, into, size, size) / (into * size**2) ** 0.5
        if bias:
            self.state[f"{name}.bias"] = self.draw(out)
        if side is None:
            self.state[f"{name}.weight"] = weight
            return
        # of a 1x1 convolution the code normalises the matrix
        inputs, outputs = (1, 1) if size == 1 else (side, -(-side // stride))
        v = F.normalize(self.draw(into * inputs**2), dim=0)
        u = F.conv2d(
            v.view(1, into, inputs, inputs), weight, stride=stride if size > 1 else 1, padding=size // 2
        )
        assert u.shape[-1] == outputs
        self.state[f"{name}.weight_orig"] = weight
        self.state[f"{name}.weight_u"] = F.normalize(u.flatten(), dim=0)
        self.state[f"{name}.weight_v"] = v
        self.state[f"{name}.weight_sigma"] = torch.ones(1)

    def linear(self, name, out, into):
        self.state[f"{name}.weight"], self.state[f"{name}.bias"] = self.draw(out, into), self.draw(out)


class Forward:
    """Layers by their names, as DDU's code computes them."""

    def __init__(self, state, coeff=3.0):
        self.state, self.coeff = state, coeff

    def norm(self, name, x):
        values = [self.state[f"{name}.{key}"] for key in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(x, *values)

    def conv(self, name, x, stride=1):
        state, bias = self.state, self.state.get(f"{name}.bias")
        if f"{name}.weight" in state:
            weight = state[f"{name}.weight"]
            return F.conv2d(x, weight, bias, stride, weight.shape[-1] // 2)
        weight, u, v = (state[f"{name}.weight_{key}"] for key in ("orig", "u", "v"))
        size = weight.shape[-1]
        if size == 1:
            sigma = u @ weight.flatten(1) @ v
            scale = max(1.0, float(sigma) / self.coeff)
        else:
            side = int((len(v) // weight.shape[1]) ** 0.5)
            image = v.view(1, weight.shape[1], side, side)
            sigma = u @ F.conv2d(image, weight, stride=stride, padding=1).flatten()
            scale = max(1.0, float(sigma) / self.coeff) + 1e-5
        return F.conv2d(x, weight / scale, bias, stride, size // 2)


def ddu_wrn(names, sn, mod):
    """A WRN-10-1 of DDU."""
    side = 32 if sn else None
    names.conv("conv1", 16, 3, 3, side)
    before = 16
    for stage, (width, stride) in enumerate(((16, 1), (32, 2), (64, 2)), 1):
        at, after = f"layer{stage}.0", None if side is None else side // stride
        names.norm(f"{at}.bn1", before), names.norm(f"{at}.bn2", width)
        names.conv(f"{at}.conv1", width, before, 3, side, stride)
        names.conv(f"{at}.conv2", width, width, 3, after)
        if before != width and not mod:
            names.conv(f"{at}.shortcut", width, before, 1, side, stride)
        before, side = width, after
    names.norm("bn1", 64), names.linear("linear", 10, 64)
    return names.state


def run_ddu_wrn(state, x, coeff, mod):
    forward = Forward(state, coeff)

    def act(x):
        return F.leaky_relu(x, SLOPE) if mod else F.relu(x)

    x = forward.conv("conv1", x)
    for stage in (1, 2, 3):
        at, stride = f"layer{stage}.0", 1 if stage == 1 else 2
        y = forward.conv(f"{at}.conv1", act(forward.norm(f"{at}.bn1", x)), stride)
        y = forward.conv(f"{at}.conv2", act(forward.norm(f"{at}.bn2", y)))
        if stride == 2 and mod:
            x = F.avg_pool2d(x, 2, 2)
            x = torch.cat([x, torch.zeros_like(x)], 1)
        elif stride == 2:
            x = forward.conv(f"{at}.shortcut", x, 2)
        x = x + y
    x = act(forward.norm("bn1", x)).mean((2, 3))
    return F.linear(x, state["linear.weight"], state["linear.bias"])


def loaded(tmp_path, content, name, **options):
    torch.save(content, tmp_path / "w.model")
    return resolve_backbone(name, str(tmp_path / "w.model"), options=options)


def images(channels=3, side=32):
    return torch.rand(2, channels, side, side, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("sn", [False, True])
@pytest.mark.parametrize("mod", [False, True])
def test_wide_resnets_of_ddu(tmp_path, sn, mod):
    state = ddu_wrn(Names(), sn, mod)
    content = {f"module.{key}": value for key, value in state.items()}  # saved by DataParallel
    options = {"mod": mod, "sn": sn, "coeff": 0.7, "shortcut": "none"}
    backbone = loaded(tmp_path, content, "wrn-10-1", **options)
    with torch.inference_mode():
        wanted = run_ddu_wrn(state, images(), 0.7, mod)
        other = run_ddu_wrn(state, images(), 1e9, mod)
        torch.testing.assert_close(backbone.module(images()), wanted, rtol=2e-3, atol=2e-3)
        assert sn == bool((wanted - other).abs().max() > 0.05), "the bound has an effect"
    assert any("1.00001" in note for note in backbone.notes) == sn
    assert backbone.options == {key: value for key, value in options.items() if value is not False}


def test_a_file_with_spectral_normalisation_needs_the_option(tmp_path):
    with pytest.raises(Mismatch, match="--arch-option sn=true"):
        loaded(tmp_path, ddu_wrn(Names(), True, True), "wrn-10-1", mod=True, shortcut="none")


def test_spectral_normalisation_of_the_kernel_as_a_matrix_is_another(tmp_path):
    """PyTorch's own hook divides by the norm of the kernel as a matrix, whose vectors have other sizes."""
    net = create_net("wrn-10-1", 10)
    torch.nn.utils.spectral_norm(net.conv1)
    with pytest.raises(Mismatch):
        loaded(tmp_path, net.state_dict(), "wrn-10-1", sn=True)


def test_small_resnets_of_ddu_for_digits(tmp_path):
    """Shortcuts are modules of a list, and the images are grey with 28 x 28 pixels."""
    names, before, side = Names(), 64, 28
    names.conv("conv1", 64, 1, 3, side), names.norm("bn1", 64)
    for stage, (width, stride) in enumerate(((64, 1), (128, 2), (256, 2), (512, 2)), 1):
        for block in (0, 1):
            at, step = f"layer{stage}.{block}", stride if block == 0 else 1
            names.conv(f"{at}.conv1", width, before, 3, side, step), names.norm(f"{at}.bn1", width)
            if before != width:
                (
                    names.conv(f"{at}.shortcut.0", width, before, 1, side, step),
                    names.norm(f"{at}.shortcut.1", width),
                )
            side = -(-side // step)
            names.conv(f"{at}.conv2", width, width, 3, side), names.norm(f"{at}.bn2", width)
            before = width
    names.linear("fc", 10, 512)
    backbone = loaded(tmp_path, names.state, "cifar-resnet18", sn=True, coeff=0.5)
    forward = Forward(names.state, 0.5)
    with torch.inference_mode():
        x = F.relu(forward.norm("bn1", forward.conv("conv1", images(1, 28))))
        for stage in (1, 2, 3, 4):
            for block in (0, 1):
                at, step = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
                y = F.relu(forward.norm(f"{at}.bn1", forward.conv(f"{at}.conv1", x, step)))
                y = forward.norm(f"{at}.bn2", forward.conv(f"{at}.conv2", y))
                if step == 2:
                    x = forward.norm(f"{at}.shortcut.1", forward.conv(f"{at}.shortcut.0", x, 2))
                x = F.relu(x + y)
        wanted = F.linear(x.mean((2, 3)), names.state["fc.weight"], names.state["fc.bias"])
        torch.testing.assert_close(backbone.module(images(1, 28)), wanted, rtol=2e-3, atol=2e-3)
    assert backbone.channels == 1


def test_vgg_of_ddu(tmp_path):
    """Its names are those of the layers in order, without biases."""
    names, place, before = Names(), 0, 3
    for stage in ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512)):
        for width in stage:
            names.conv(f"features.{place}", width, before, 3), names.norm(f"features.{place + 1}", width)
            place, before = place + 3, width
        place += 1
    names.linear("classifier", 10, 512)
    backbone = loaded(tmp_path, names.state, "cifar-vgg16", mod=True, bias=False)
    forward, x, place = Forward(names.state), images(), 0
    with torch.inference_mode():
        for stage in (2, 2, 3, 3, 3):
            for _ in range(stage):
                x = forward.norm(f"features.{place + 1}", forward.conv(f"features.{place}", x))
                x, place = F.leaky_relu(x, SLOPE), place + 3
            x, place = F.max_pool2d(x, 2), place + 1
        wanted = F.linear(x.flatten(1), names.state["classifier.weight"], names.state["classifier.bias"])
        torch.testing.assert_close(backbone.module(images()), wanted, rtol=1e-4, atol=1e-4)


def test_lenet_of_ddu_has_no_padding(tmp_path):
    names = Names()
    names.conv("conv1", 6, 1, 5, bias=True), names.conv("conv2", 16, 6, 5, bias=True)
    names.linear("fc1", 120, 256), names.linear("fc2", 84, 120), names.linear("fc3", 10, 84)
    backbone = loaded(tmp_path, names.state, "lenet", padding=0)
    state = names.state
    with torch.inference_mode():
        x = images(1, 28)
        for name in ("conv1", "conv2"):
            x = F.max_pool2d(F.relu(F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"])), 2)
        x = x.flatten(1)
        for name in ("fc1", "fc2"):
            x = F.relu(F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"]))
        wanted = F.linear(x, state["fc3.weight"], state["fc3.bias"])
        torch.testing.assert_close(backbone.module(images(1, 28)), wanted)
    with pytest.raises(Mismatch, match=r"fc1.weight is 120x256, expected 120x400"):
        loaded(tmp_path, state, "lenet")


# --- Lightning ------------------------------------------------------------------------------------------


def lightning(state):
    return {
        "epoch": 499,
        "global_step": 1000,
        "pytorch-lightning_version": "1.1.2",
        "state_dict": state,
        "optimizer_states": [{"state": {0: {"momentum_buffer": torch.ones(3)}}}],
        "hyper_parameters": {"latent_dim": 32, "enc_type": "densenet", "margin": [1.0, 2.0]},
    }


@pytest.mark.parametrize("name", ["densenet-40-12", "vggm", "mnist-conv", "cifar-resnet18", "wrn-10-2"])
def test_encoders_of_vmdls(tmp_path, name):
    """The encoder is without classifier, or with one that its latent head does not use."""
    net = create_net(name, 10)
    for tensor in net.state_dict().values():
        if tensor.is_floating_point():
            tensor.add_(0.01 * torch.rand(tensor.shape, generator=torch.Generator().manual_seed(2)))
    encoder = {
        key: value for key, value in net.state_dict().items() if name == "densenet-40-12" or "fc." not in key
    }
    state = {f"encoder.{key}": value for key, value in encoder.items()}
    width = net.fc.in_features
    for layer in ("fc_mu", "fc_var"):
        state |= {f"{layer}.weight": torch.ones(32, width), f"{layer}.bias": torch.ones(32)}
    state["ae.encoder.conv1.weight"] = torch.ones(64, 3, 3, 3)  # of the auto-encoder beside it
    backbone = loaded(tmp_path, lightning(state), name)
    net.fc = torch.nn.Identity()
    x = images(*((1, 28) if name == "mnist-conv" else (3, 32)))
    with torch.inference_mode():
        torch.testing.assert_close(backbone.module(x), net.eval()(x))
    assert any("features only" in note for note in backbone.notes)
    assert any("left out" in note and "encoder.fc" in note for note in backbone.notes) == (
        name == "densenet-40-12"
    )


@pytest.mark.parametrize("prefix", ["backbone", "model.f"])
def test_networks_of_the_thesis(tmp_path, prefix):
    """A WRN-10-1 without normalisation, with biases and the stride in the second convolution."""
    names, before = Names(), 16
    names.conv("conv1", 16, 3, 3, bias=True)
    for stage, width in enumerate((16, 32, 64), 1):
        at = f"layer{stage}.0"
        (
            names.conv(f"{at}.conv1", width, before, 3, bias=True),
            names.conv(f"{at}.conv2", width, width, 3, bias=True),
        )
        if before != width:
            names.conv(f"{at}.shortcut.0", width, before, 1, bias=True)
        before = width
    names.linear("linear", 10, 64)
    content = lightning({f"{prefix}.{key}": value for key, value in names.state.items()})
    options = {"norm": "none", "bias": True, "slope": 0.2, "late_stride": True, "shortcut": "none"}
    backbone = loaded(tmp_path, content, "wrn-10-1", **options)
    forward = Forward(names.state)

    def act(x):
        return F.leaky_relu(x, 0.2)

    with torch.inference_mode():
        x = forward.conv("conv1", images())
        for stage in (1, 2, 3):
            at, stride = f"layer{stage}.0", 1 if stage == 1 else 2
            y = forward.conv(f"{at}.conv2", act(forward.conv(f"{at}.conv1", act(x))), stride)
            x = y + (forward.conv(f"{at}.shortcut.0", x, 2) if stage > 1 else x)
        wanted = F.linear(act(x).mean((2, 3)), names.state["linear.weight"], names.state["linear.bias"])
        torch.testing.assert_close(backbone.module(images()), wanted, rtol=1e-4, atol=1e-4)


def test_the_first_normalisation_that_is_not_used_may_be_in_the_file(tmp_path):
    net = create_net("wrn-10-1", 10, first_norm=False)
    state = {
        key.replace("block", "layer").replace(".layer.", "."): value
        for key, value in net.state_dict().items()
    }
    for key in ("weight", "bias", "running_mean", "running_var"):
        state[f"layer1.0.bn1.{key}"] = torch.ones(16)
    backbone = loaded(tmp_path, state, "wrn-10-1", first_norm=False)
    with torch.inference_mode():
        torch.testing.assert_close(backbone.module(images()), net.eval()(images()))
    assert any("left out block1.layer.0.bn1" in note for note in backbone.notes)


# --- on the command line --------------------------------------------------------------------------------


def test_options_of_networks_are_recorded_and_used_again(featood, toy_images, tmp_path):
    net = create_net("wrn-10-1", 3, sn=True, coeff=0.5).eval()
    net(torch.zeros(1, 3, 16, 16))  # makes the vectors
    torch.save(net.state_dict(), tmp_path / "w.pt")
    words = ("extract", "--backbone", "wrn-10-1", "--weights", tmp_path / "w.pt", "--dataset", "toy")
    given = ("--arch-option", "sn=true", "--arch-option", "coeff=0.5")
    code, out, err = featood(*words, *given)
    assert code == 0, err
    code, out, err = featood("score", "--head", "energy", "--ood", "odd")
    assert code == 0 and "odd" in out, err
    code, _, err = featood(*words, "--arch-option", "sn=true")
    assert code == 5 and "backbone_options" in err
    code, _, err = featood(*words)
    assert code == 5 and "--arch-option sn=true" in err
    for option, says in (("sn", "NAME=VALUE"), ("spin=1", "no option 'spin'"), ("coeff=-1", "at least")):
        code, _, err = featood(*words, "--arch-option", option)
        assert code == 2 and says in err


def test_only_own_networks_have_options():
    with pytest.raises(UsageError, match="takes no options"):
        resolve_backbone("tv:resnet18", "random", options={"sn": True})
