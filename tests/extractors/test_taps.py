import numpy as np
import pytest
import torch
from networks import CLASSES, IMAGES, Net, linear, mean, randomised, record, relative_error, timm_model
from torch import nn

from featood.errors import UsageError
from featood.extractors.pooling import pool
from featood.extractors.taps import plan_taps


class Wrapped(nn.Module):
    """A module that returns a sum, which is not the output of a layer."""

    def __init__(self, mix):
        super().__init__()
        self.mix = mix

    def forward(self, x):
        return x + self.mix(x)


class Stages(nn.Module):
    def __init__(self, to_stage, stage, back, width=6):
        super().__init__()
        self.conv, self.to_stage, self.stage, self.back = (
            nn.Conv2d(3, width, 2, 2),
            to_stage,
            Wrapped(stage),
            back,
        )
        self.fc = nn.Linear(width, CLASSES)

    def forward(self, x):
        return self.fc(self.back(self.stage(self.to_stage(self.conv(x)))))


MAPS = {
    "[B, C, H, W]": (lambda x: x, nn.Conv2d(6, 6, 1), mean, 1),
    "[B, H, W, C]": (lambda x: x.permute(0, 2, 3, 1), nn.Linear(6, 6), lambda x: x.mean((1, 2)), 3),
    "[B, T, C]": (lambda x: x.flatten(2).mT, nn.Linear(6, 6), lambda x: x.mean(1), 2),
    "[B, C, T]": (lambda x: x.flatten(2), nn.Conv1d(6, 6, 1), lambda x: x.mean(2), 1),
    "[B, C, D, H, W]": (
        lambda x: x[:, :, None].expand(-1, -1, 4, -1, -1), nn.Conv3d(6, 6, 1), lambda x: x.mean((2, 3, 4)), 1,
    ),
    "[B, D, H, W, C]": (
        lambda x: x[:, :, None].expand(-1, -1, 4, -1, -1).movedim(1, -1), nn.Linear(6, 6),
        lambda x: x.mean((1, 2, 3)), 4,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MAPS)
def test_maps_are_pooled_over_positions_in_either_order(name, script):
    to_stage, stage, back, channels = MAPS[name]
    net = randomised(Stages(to_stage, stage, back), script)
    plan = plan_taps(net, IMAGES, ("stage",), ("avg", "std", "max"))
    seen = []
    net.stage.register_forward_hook(lambda module, inputs, output: seen.append(output))
    columns = record(net, plan)
    flat = seen[0].movedim(channels, 1).flatten(2)
    for how, expected in (("avg", flat.mean(2)), ("std", flat.std(2)), ("max", flat.amax(2))):
        assert columns[f"stage.{how}"].shape == (3, 6)
        torch.testing.assert_close(columns[f"stage.{how}"], expected)
    torch.testing.assert_close(columns["std"], flat.std(2))  # the default column is pooled from the same map
    assert plan.main == "avg" and relative_error(net, plan) < 1e-4


def test_as_many_channels_as_rows_and_columns(script):
    net = randomised(
        Stages(lambda x: x.permute(0, 2, 3, 1), nn.Identity(), lambda x: x.mean((1, 2)), 8), script
    )
    plan = plan_taps(
        net, IMAGES, ("stage",), ("avg",)
    )  # a map [B, 8, 8, 8] that is not the input or output of a layer
    maps = net.conv(IMAGES)
    torch.testing.assert_close(record(net, plan)["stage.avg"], 2 * mean(maps))


class Fixed(nn.Module):
    """A network for images of one size, which splits the channels between rows and columns."""

    def __init__(self):
        super().__init__()
        self.conv, self.split, self.fc = nn.Conv2d(3, 8, 4, 4), nn.Identity(), nn.Linear(16, CLASSES)

    def forward(self, x):
        assert x.shape[-1] == 16
        x = self.split(self.conv(x).view(-1, 4, 2, 16).mT)
        return self.fc(x.mT.mean((1, 2)))


def test_ambiguous_axes_are_refused(script):
    net = randomised(Fixed(), script)
    with pytest.raises(UsageError, match="the axis of the channels cannot be determined") as error:
        plan_taps(net, IMAGES, ("split",))
    assert "\n" not in str(error.value)


def test_maps_of_swin_are_pooled_over_positions(script):
    from featood.extractors.vision import torchvision

    net = randomised(torchvision.models.get_model("swin_t"), script)
    images = torch.randn(2, 3, 64, 64)
    plan = plan_taps(net, images, ("features.3",), ("avg",))
    seen = []
    net.features[3].register_forward_hook(lambda module, inputs, output: seen.append(output))
    columns = record(net, plan, images)
    assert columns["features.3.avg"].shape == (2, 192)
    torch.testing.assert_close(columns["features.3.avg"], seen[0].mean((1, 2)))
    assert plan.columns_json()["features.3.avg"] == [
        "features.3",
        "output",
        "avg",
        {"channels": 3, "prefix": 0},
    ]


# ---- tokens


def test_tokens_before_the_patches_are_left_out(script):
    from featood.extractors.vision import timm, torchvision

    vit = timm_model(script, "test_vit3", img_size=64)  # with a class token, register tokens, or both
    prefix = vit.num_prefix_tokens
    assert prefix > 0
    images = torch.randn(2, 3, 64, 64)
    pools = ("avg", "std", "max", "gram", "token") if vit.has_class_token else ("avg", "std", "max", "gram")
    plan = plan_taps(vit, images, ("blocks.0", "blocks.1.mlp"), pools)
    seen = {}
    vit.blocks[0].register_forward_hook(lambda module, inputs, output: seen.update({"blocks.0": output}))
    vit.blocks[1].mlp.register_forward_hook(
        lambda module, inputs, output: seen.update({"blocks.1.mlp": output})
    )
    columns = record(vit, plan, images)
    for name, tokens in seen.items():
        for how in ("avg", "max", "token"):
            if how in pools:
                expected = timm.layers.global_pool_nlc(tokens, how, prefix)
                torch.testing.assert_close(columns[f"{name}.{how}"], expected)
        torch.testing.assert_close(columns[f"{name}.std"], tokens[:, prefix:].std(1))
        torch.testing.assert_close(columns[f"{name}.gram"], pool(tokens[:, prefix:], "gram", 2))
    own = torchvision.models.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=5)
    own = randomised(own, script)
    small = torch.randn(2, 3, 32, 32)
    plan = plan_taps(own, small, ("encoder.layers.encoder_layer_0", "encoder.layers.encoder_layer_0.mlp.1"))
    own.encoder.layers[0].register_forward_hook(lambda module, inputs, output: seen.update(layer=output))
    columns = record(own, plan, small)
    assert plan.main == "token"
    assert plan.columns_json()["encoder.layers.encoder_layer_0.mlp.1.avg"][3] == {"channels": 2, "prefix": 1}
    torch.testing.assert_close(columns["encoder.layers.encoder_layer_0.avg"], seen["layer"][:, 1:].mean(1))
    assert plan.columns_json()["avg"][3] == {"channels": 2, "prefix": 1}
    assert len(plan.columns_json()["token"]) == 3


def test_token_pooling_needs_a_class_token(script):
    from featood.extractors.vision import timm

    mixer = timm.models.mlp_mixer.MlpMixer(5, img_size=64, num_blocks=1, embed_dim=24)
    mixer = randomised(mixer, script)
    images = torch.randn(2, 3, 64, 64)
    plan = plan_taps(mixer, images, ("blocks.0",))
    torch.testing.assert_close(
        record(mixer, plan, images)["blocks.0.avg"], mixer.blocks(mixer.stem(images)).mean(1)
    )
    with pytest.raises(UsageError, match="no class token"):
        plan_taps(mixer, images, ("blocks.0",), ("token",))


# ---- taps


class Pair(nn.Module):
    def forward(self, x):
        return x, x.sum()


class Latent(nn.Module):
    """A density, whose linear layer and last map are not its features."""

    feature_layer = "latent"
    density_column = "log-density"

    def __init__(self, outputs):
        super().__init__()
        self.conv, self.latent = nn.Conv2d(3, 4, 3), nn.Identity()
        self.fc, self.num_classes = nn.Linear(4, outputs), outputs

    def forward(self, x):
        x = self.conv(x)
        self.latent(x.flatten(1)[:, :7])
        return self.fc(x.mean((2, 3)))


@pytest.mark.parametrize("outputs", [1, 5])
def test_a_network_declares_its_features(outputs):
    net = Latent(outputs).eval()
    plan = plan_taps(net, IMAGES)
    found = record(net, plan)
    assert plan.main == "penultimate" and list(plan.columns) == ["penultimate"] and plan.head is None
    expected = net.conv(IMAGES).flatten(1)[:, :7]
    torch.testing.assert_close(found["penultimate"], expected)
    torch.testing.assert_close(found["log-density"], net(IMAGES).logsumexp(1, keepdim=True))
    assert ("logits" in found) == (outputs > 1)
    net.feature_layer = "nothing"
    with pytest.raises(UsageError, match="no module 'nothing' to tap"):
        plan_taps(net, IMAGES)


def test_modules_that_return_several_tensors_or_none(script):
    net = Net(lambda n, x: n.fc(mean(n.pair(x)[0])), pair=Pair(), unused=nn.Linear(3, 3), fc=linear())
    plan = plan_taps(randomised(net, script), IMAGES, ("pair", "fc"))
    assert "'pair' returns several tensors; the first is used" in plan.note
    assert record(net, plan)["pair.avg"].shape == (3, 8)
    assert "fc.avg" in plan.columns and "fc.std" not in plan.columns
    with pytest.raises(UsageError, match="'unused' is not run"):
        plan_taps(net, IMAGES, ("unused",))
    with pytest.raises(UsageError, match="its stages: conv"):
        plan_taps(net, IMAGES, ("layer9",))
    with pytest.raises(UsageError, match="no pooling 'mean'"):
        plan_taps(net, IMAGES, (), ("mean",))
    with pytest.raises(UsageError, match="does not accept images"):
        plan_taps(net, torch.randn(2, 1, 16, 16))


def test_outputs_that_are_not_finite_are_refused(script):
    net = randomised(Net(lambda n, x: n.fc(mean(x)), fc=linear()), script)
    net.fc.bias.data[0] = float("nan")
    with pytest.raises(UsageError, match="not finite"):
        plan_taps(net, IMAGES)


def test_the_recipe_of_a_plain_network_has_not_changed(script):
    net = randomised(
        Net(lambda n, x: n.fc(n.pool(x).flatten(1)), pool=nn.AdaptiveAvgPool2d(1), fc=linear()), script
    )
    plan = plan_taps(net, IMAGES, ("conv",), maps=True)
    assert plan.columns_json() == {
        "avg": ["fc", "input", "avg"],
        "std": ["pool", "input", "std"],
        "map": ["pool", "input", "map"],
        "conv.avg": ["conv", "output", "avg"],
        "conv.std": ["conv", "output", "std"],
    }
    assert plan.map_shape == (8, 7, 7)
    weight, bias = plan.classifier(net)
    assert np.array_equal(weight, net.fc.weight.detach()) and np.array_equal(bias, net.fc.bias.detach())


def test_a_scripted_network():
    net = torch.jit.script(nn.Sequential(nn.Flatten(), nn.Linear(768, CLASSES)).eval())
    plan = plan_taps(net, IMAGES)
    assert plan.outputs == "features" and "--outputs classes" in plan.note
    with pytest.raises(UsageError, match="no features can be found"):
        plan_taps(net, IMAGES, outputs="classes")


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Conv2d(3, 6, 4, 4)
        self.norm = nn.LayerNorm(6)
        self.head = nn.Linear(6, 5)

    def forward(self, x):
        return self.head(self.norm(self.embed(x).flatten(2).mT)[:, 0])


def test_the_token_used_by_the_classifier():
    plan = plan_taps(Tokens().eval(), IMAGES, (), ("avg", "std", "token"))
    assert plan.main == "token" and set(plan.columns) == {"token", "avg", "std"}


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("avg", lambda m: m.mean((2, 3))),
        ("max", lambda m: m.amax((2, 3))),
        ("std", lambda m: m.flatten(2).std(2)),
        ("norm", lambda m: (m * (m > 0)).square().sum((2, 3)).sqrt()),
    ],
)
def test_pooling_of_maps(how, expected):
    maps = torch.randn(3, 5, 4, 2)
    assert torch.allclose(pool(maps, how), expected(maps), atol=1e-6)
    assert torch.allclose(pool(maps.permute(0, 2, 3, 1), how, 3), expected(maps), atol=1e-6)
