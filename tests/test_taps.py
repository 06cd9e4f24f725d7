import collections
import types

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from featood.errors import UsageError
from featood.extractors.dropout import dropout_logits
from featood.extractors.outputs import class_outputs
from featood.extractors.perturb import odin_logits
from featood.extractors.pooling import pool
from featood.extractors.taps import plan_taps

IMAGES = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(3))
CLASSES = 5


def randomised(net, script):
    """Put random values into all parameters and statistics, so that no head is zero and no check trivial."""
    script("architectures").randomise(net)
    assert all(bool(parameter.abs().max() > 0) for parameter in net.parameters())
    return net.eval()


def record(net, plan, images=IMAGES):
    with plan.recording(net) as forward, torch.inference_mode():
        return forward(images)


def relative_error(net, plan, images=IMAGES):
    columns = record(net, plan, images)
    weight, bias = (torch.from_numpy(part) for part in plan.classifier(net))
    with torch.inference_mode():
        logits = class_outputs(net(images))
    assert torch.equal(columns["logits"], logits)
    assert logits.std(0).min() > 0
    made = columns[plan.main] @ weight.T + bias
    return ((made - logits).abs().max() / logits.abs().max()).item()


class Net(nn.Module):
    """A convolution to 8 channels, and a head given as a function of the network and its map."""

    def __init__(self, head, **layers):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2)
        self.act = nn.ReLU()
        for name, layer in layers.items():
            setattr(self, name, layer)
        self.run_head = head

    def forward(self, x):
        return self.run_head(self, self.act(self.conv(x)))


class Cosine(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(CLASSES, 8))

    def forward(self, z):
        return 16 * functional.linear(functional.normalize(z), functional.normalize(self.weight))


class NormalisedLinear(nn.Linear):
    def forward(self, z):
        return functional.linear(z, functional.normalize(self.weight), self.bias) / 0.07


class LowRank(nn.Module):
    def __init__(self):
        super().__init__()
        self.base, self.down, self.up = (
            nn.Linear(8, CLASSES),
            nn.Linear(8, 2, False),
            nn.Linear(2, CLASSES, False),
        )

    def forward(self, z):
        return self.base(z) + 2 * self.up(self.down(z))


def mean(x):
    return x.mean((2, 3))


def linear(width=8):
    return nn.Linear(width, CLASSES)


LINEAR = {
    "linear": (lambda n, x: n.fc(mean(x)), {"fc": linear()}, "avg", 8),
    "1x1 convolution of the pooled map": (
        lambda n, x: n.fc(x.mean((2, 3), keepdim=True)).flatten(1), {"fc": nn.Conv2d(8, CLASSES, 1)}, "avg", 8,
    ),
    "1x1 convolution, outputs [B, C, 1, 1]": (
        lambda n, x: n.fc(x.mean((2, 3), keepdim=True)), {"fc": nn.Conv2d(8, CLASSES, 1)}, "avg", 8,
    ),
    "convolution of the map, then averaged": (
        lambda n, x: mean(n.fc(x)), {"fc": nn.Conv2d(8, CLASSES, 1)}, "avg", 8,
    ),
    "convolution as large as the map": (
        lambda n, x: n.fc(x).flatten(1), {"fc": nn.Conv2d(8, CLASSES, 7)}, "penultimate", 8 * 49,
    ),
    "linear on positions, then averaged": (
        lambda n, x: n.fc(x.flatten(2).mT).mean(1), {"fc": linear()}, "avg", 8,
    ),
    "two heads on two features": (
        lambda n, x: (n.a(mean(x)) + n.b(x.amax((2, 3)))) / 2, {"a": linear(), "b": linear()}, "penultimate", 16,
    ),
    "two heads on one feature": (
        lambda n, x: (n.a(mean(x)) + n.b(mean(x))) / 2, {"a": linear(), "b": linear()}, "avg", 8,
    ),
    "two normalised heads on one feature": (
        lambda n, x: n.a(mean(x)) + n.b(mean(x)),
        {name: nn.Sequential(nn.BatchNorm1d(8), linear()) for name in "ab"}, "avg", 8,
    ),
    "batch normalisation before it": (
        lambda n, x: n.fc(n.bn(mean(x))), {"bn": nn.BatchNorm1d(8), "fc": linear()}, "penultimate", 8,
    ),
    "batch normalisation after it": (
        lambda n, x: n.bn(n.fc(mean(x))), {"bn": nn.BatchNorm1d(CLASSES), "fc": linear()}, "avg", 8,
    ),
    "perceptron": (
        lambda n, x: n.fc(n.hidden(mean(x)).relu()), {"hidden": nn.Linear(8, 6), "fc": linear(6)}, "penultimate", 6,
    ),
    "scaled and shifted": (lambda n, x: n.fc(mean(x)) / 0.1 - n.prior, {
        "fc": linear(), "prior": nn.Parameter(torch.randn(CLASSES)),
    }, "avg", 8),
    "weight normalisation": (
        lambda n, x: n.fc(mean(x)), {"fc": nn.utils.parametrizations.weight_norm(linear())}, "avg", 8,
    ),
    "subclass of a linear layer": (lambda n, x: n.fc(mean(x)), {"fc": NormalisedLinear(8, CLASSES)}, "avg", 8),
    "low-rank addition": (lambda n, x: n.fc(mean(x)), {"fc": LowRank()}, "avg", 8),
    "in the code": (lambda n, x: mean(x) @ n.fc.T + 1, {"fc": nn.Parameter(torch.randn(CLASSES, 8))}, "avg", 8),
    "cosine": (lambda n, x: n.fc(mean(x)), {"fc": Cosine()}, "penultimate", 8),
    "cosine in the code": (
        lambda n, x: 9 * functional.normalize(mean(x)) @ functional.normalize(n.fc).T + n.bias,
        {"fc": nn.Parameter(torch.randn(CLASSES, 8)), "bias": nn.Parameter(torch.randn(CLASSES))}, "penultimate", 8,
    ),
    "some of the classes": (lambda n, x: n.fc(mean(x))[:, [9, 2, 4]], {"fc": nn.Linear(8, 10)}, "avg", 8),
    "linear on patches, not on the class token": (
        lambda n, x: n.fc(torch.cat([n.cls.expand(len(x), -1, -1), x.flatten(2).mT], 1))[:, 1:].mean(1),
        {"fc": linear(), "cls": nn.Parameter(torch.randn(1, 1, 8))}, "avg", 8,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LINEAR)
def test_the_linear_classifier_is_found(name, script):
    head, layers, main, width = LINEAR[name]
    net = randomised(Net(head, **layers), script)
    plan = plan_taps(net, IMAGES)
    assert (plan.outputs, plan.main, plan.note) == ("classes", main, "")
    assert record(net, plan)[main].shape[1] == width
    assert relative_error(net, plan) < 1e-4
    assert relative_error(net, plan, 5 * IMAGES) < 1e-4


class Capped(nn.Module):
    def forward(self, x):
        return 30 * (x / 30).tanh()


NONLINEAR = {
    "capped": (lambda n, x: n.cap(n.fc(0.01 * mean(x))), {"fc": linear(), "cap": Capped()}, 8),
    "rectified": (lambda n, x: n.fc(mean(x)).relu(), {"fc": linear()}, 8),
    "log-probabilities": (lambda n, x: n.fc(mean(x)).log_softmax(1), {"fc": linear()}, 8),
    "largest over positions": (
        lambda n, x: n.a(mean(x)) + n.b(x.flatten(2).mT).amax(1), {"a": linear(), "b": linear()}, 8,
    ),
    "rectified on the map": (lambda n, x: mean(n.fc(x).relu()), {"fc": nn.Conv2d(8, CLASSES, 1)}, 8),
}  # fmt: skip


@pytest.mark.parametrize("name", NONLINEAR)
def test_outputs_without_a_linear_classifier_are_logits_and_it_is_said(name, script):
    head, layers, width = NONLINEAR[name]
    net = randomised(Net(head, **layers), script)
    net.num_classes = CLASSES
    plan = plan_taps(net, IMAGES)
    assert plan.has_logits and plan.classifier(net) is None
    assert "no linear classifier: its outputs are stored as logits" in plan.note
    columns = record(net, plan)
    assert torch.equal(columns["logits"], net(IMAGES))
    assert columns[plan.main].shape[1] == width  # features, and no logits under the name of features


def test_classifiers_of_published_architectures(script):
    architectures = script("architectures")
    found = {
        name: architectures.examine(name)
        for name in (
            "timm:test_vit", "timm:test_mambaout", "timm:test_nfnet", "timm:mobilenetv3_small_050",
            "timm:resnetv2_18", "tv:squeezenet1_1",
        )
    }  # fmt: skip
    assert found.pop("tv:squeezenet1_1")["result"] == "no linear classifier"
    for name, row in found.items():
        assert row["result"] == "resolved" and row["error"] < 1e-4, row
        assert row["spread"] > 0.01, name  # outputs that hardly vary would prove nothing


def timm_model(script, name, **how):
    from featood.extractors.vision import timm

    return randomised(timm.create_model(name, **how), script)


def test_distilled_heads_are_one_classifier_on_both_tokens(script):
    net = timm_model(
        script,
        "deit_tiny_distilled_patch16_224",
        img_size=32,
        depth=1,
        embed_dim=24,
        num_heads=2,
        num_classes=5,
    )
    images = torch.randn(3, 3, 32, 32)
    plan = plan_taps(net, images)
    assert relative_error(net, plan, images) < 1e-4
    columns = record(net, plan, images)
    assert torch.allclose(
        columns[plan.main].mean(1), net.forward_features(images)[:, :2].mean((1, 2)), atol=1e-5
    )
    tokens = net.forward_features(images)[:, 2:]
    assert torch.allclose(columns["avg"], tokens.mean(1), atol=1e-5)
    assert plan.columns_json()["avg"][3] == {"channels": 2, "prefix": 2}


# ---- outputs


def test_what_the_outputs_are_can_be_said(script):
    net = randomised(Net(lambda n, x: n.fc(mean(x)), fc=linear()), script)
    for kind in ("multi-label", "regression"):
        plan = plan_taps(net, IMAGES, outputs=kind)
        columns = record(net, plan)
        assert (
            list(columns) == ["avg", "std", "outputs"] and plan.classifier(net) is None and kind in plan.note
        )
        assert torch.equal(columns["outputs"], net(IMAGES))
    plan = plan_taps(net, IMAGES, outputs="features")
    assert list(plan.columns) == ["output"] and not plan.has_logits
    with pytest.raises(UsageError, match="outputs are one of"):
        plan_taps(net, IMAGES, outputs="classy")


OTHERS = {
    "a single output": (lambda n, x: n.one(mean(x)), {"one": nn.Linear(8, 1)}, "regression"),
    "a number an image": (lambda n, x: n.one(mean(x))[:, 0], {"one": nn.Linear(8, 1)}, "regression"),
    "a sigmoid": (lambda n, x: n.out(n.fc(mean(x))), {"fc": linear(), "out": nn.Sigmoid()}, "multi-label"),
    "pooled features": (lambda n, x: mean(x), {}, "features"),
    "an embedding of length 1": (lambda n, x: functional.normalize(n.fc(mean(x))), {"fc": linear()}, "features"),
    "called features": (lambda n, x: {"pooler_output": n.fc(mean(x)), "hidden": x}, {"fc": linear()}, "features"),
    "multi-label by its configuration": (
        lambda n, x: n.fc(mean(x)),
        {"fc": linear(), "config": types.SimpleNamespace(problem_type="multi_label_classification")}, "multi-label",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_outputs_that_are_no_classes_are_recognised_and_it_is_said(name, script):
    head, layers, kind = OTHERS[name]
    net = randomised(Net(head, **layers), script)
    plan = plan_taps(net, IMAGES)
    assert (plan.outputs, plan.has_logits, plan.classifier(net)) == (kind, False, None)
    assert kind in plan.note
    assert "logits" not in record(net, plan)


def test_models_of_timm_that_have_no_classes(script):
    images = torch.randn(2, 3, 160, 160)
    plan = plan_taps(timm_model(script, "test_vit", num_classes=0), images)
    assert plan.outputs == "features" and "num_classes is 0" in plan.note
    clip = timm_model(script, "vit_xsmall_patch16_clip_224", img_size=32, depth=1, embed_dim=32, num_heads=2)
    plan = plan_taps(clip, torch.randn(2, 3, 32, 32))
    assert plan.outputs == "features" and "shared with text" in plan.note
    maps = timm_model(script, "test_resnet", num_classes=0, global_pool="")
    plan = plan_taps(maps, images)
    with torch.inference_mode():
        assert torch.allclose(record(maps, plan, images)["output"], mean(maps(images)), atol=1e-5)


def test_a_network_in_a_wrapper_is_asked_what_its_outputs_are(script):
    head, layers, _ = NONLINEAR["rectified on the map"]
    net = randomised(Net(head, **layers), script)
    net.num_classes = CLASSES
    assert plan_taps(nn.Sequential(nn.Identity(), net), IMAGES).outputs == "classes"
    net.num_classes = 0
    assert plan_taps(nn.Sequential(nn.Identity(), net), IMAGES).outputs == "features"
    del net.num_classes
    plan = plan_taps(net, IMAGES)
    assert plan.outputs == "features" and "--outputs classes" in plan.note
    assert plan_taps(net, IMAGES, outputs="classes").has_logits


def test_probabilities_are_refused(script):
    net = randomised(Net(lambda n, x: n.fc(mean(x)).softmax(1), fc=linear()), script)
    with pytest.raises(UsageError, match="leave its softmax out"):
        plan_taps(net, IMAGES)
    assert plan_taps(net, IMAGES, outputs="features").main == "output"


Outputs = collections.namedtuple("Outputs", ["logits", "aux_logits"])
ROWS, OTHER = torch.randn(4, 5), torch.randn(4, 8)


class OrderedOutputs(collections.OrderedDict):
    """As the outputs of transformers are."""

    @property
    def logits(self):
        return self["logits"]


@pytest.mark.parametrize(
    "output",
    [
        ROWS,
        ROWS[:, :, None, None],
        (ROWS,),
        [ROWS, OTHER],
        (ROWS, {"attention": OTHER}),
        (None, ROWS),
        (torch.tensor(0.3), ROWS, [OTHER]),
        {"logits": ROWS, "hidden": OTHER},
        {"out": ROWS},
        {"out": ROWS, "map": torch.randn(4, 5, 3, 3)},
        Outputs(ROWS, None),
        types.SimpleNamespace(logits=ROWS, loss=None),
        OrderedOutputs(loss=torch.tensor(1.0), logits=ROWS, hidden_states=(OTHER,)),
    ],
)
def test_the_outputs_are_found_in_what_a_network_returns(output):
    assert torch.equal(class_outputs(output), ROWS)


@pytest.mark.parametrize(
    ("output", "text"),
    [
        ({"a": ROWS, "b": OTHER}, "a: "),
        ([torch.randn(4, 3, 5, 5), torch.randn(4, 6, 2, 2)], "cannot be told"),
        (torch.randn(4, 21, 8, 8), "segmentation"),
        ([{"boxes": OTHER}, {"boxes": OTHER}], "cannot be told"),
        (None, "NoneType"),
        (types.SimpleNamespace(scores=ROWS), "SimpleNamespace"),
    ],
)
def test_outputs_that_cannot_be_told_apart_are_refused(output, text):
    with pytest.raises(UsageError, match=text) as error:
        class_outputs(output)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "wrap",
    [lambda y, z: (y, z), lambda y, z: types.SimpleNamespace(logits=y), lambda y, z: {"logits": y, "z": z}],
)
def test_networks_that_return_more_than_logits(wrap, script):
    def build(wrapped):
        return randomised(
            Net(
                lambda n, x: wrap(n.fc(n.drop(mean(x))), mean(x)) if wrapped else n.fc(n.drop(mean(x))),
                fc=linear(), drop=nn.Dropout(0.3),
            ),
            script,
        )  # fmt: skip

    plain, net = build(False), build(True)
    plan = plan_taps(net, IMAGES)
    assert relative_error(net, plan) < 1e-4
    step = torch.full((3,), 0.01)
    assert torch.equal(odin_logits(net, IMAGES, step, 10.0), odin_logits(plain, IMAGES, step, 10.0))
    assert torch.equal(dropout_logits(net, IMAGES, 2), dropout_logits(plain, IMAGES, 2))


def test_features_before_logits_are_not_taken_for_logits(script):
    net = randomised(Net(lambda n, x: (mean(x), n.fc(mean(x))), fc=linear()), script)
    with pytest.raises(UsageError, match="no linear classifier makes the first of them"):
        plan_taps(net, IMAGES)


# ---- maps


class Wrapped(nn.Module):
    """A sum in a module of its own, so that no layer makes what it gives."""

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
    torch.testing.assert_close(columns["std"], flat.std(2))  # the default column is of the same map
    assert plan.main == "avg" and relative_error(net, plan) < 1e-4


def test_as_many_channels_as_rows_and_columns(script):
    net = randomised(
        Stages(lambda x: x.permute(0, 2, 3, 1), nn.Identity(), lambda x: x.mean((1, 2)), 8), script
    )
    plan = plan_taps(net, IMAGES, ("stage",), ("avg",))  # a map [B, 8, 8, 8], which no layer makes or takes
    maps = net.conv(IMAGES)
    torch.testing.assert_close(record(net, plan)["stage.avg"], 2 * mean(maps))


class Fixed(nn.Module):
    """Takes images of one size alone, and splits their channels between rows and columns."""

    def __init__(self):
        super().__init__()
        self.conv, self.split, self.fc = nn.Conv2d(3, 8, 4, 4), nn.Identity(), nn.Linear(16, CLASSES)

    def forward(self, x):
        assert x.shape[-1] == 16
        x = self.split(self.conv(x).view(-1, 4, 2, 16).mT)
        return self.fc(x.mT.mean((1, 2)))


def test_axes_that_cannot_be_known_are_refused(script):
    net = randomised(Fixed(), script)
    with pytest.raises(UsageError, match="which of these axes are channels cannot be known") as error:
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


def test_tokens_in_front_of_the_patches_are_left_out(script):
    from featood.extractors.vision import timm, torchvision

    vit = timm_model(script, "test_vit3", img_size=64)  # with a class token and register tokens, or either
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


def test_a_class_token_is_not_made_up(script):
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


def test_modules_that_give_several_tensors_or_none(script):
    net = Net(lambda n, x: n.fc(mean(n.pair(x)[0])), pair=Pair(), unused=nn.Linear(3, 3), fc=linear())
    plan = plan_taps(randomised(net, script), IMAGES, ("pair", "fc"))
    assert "of the tensors that 'pair' returns, the first is taken" in plan.note
    assert record(net, plan)["pair.avg"].shape == (3, 8)
    assert "fc.avg" in plan.columns and "fc.std" not in plan.columns
    with pytest.raises(UsageError, match="'unused' is not run"):
        plan_taps(net, IMAGES, ("unused",))
    with pytest.raises(UsageError, match="its stages: conv"):
        plan_taps(net, IMAGES, ("layer9",))
    with pytest.raises(UsageError, match="no pooling 'mean'"):
        plan_taps(net, IMAGES, (), ("mean",))
    with pytest.raises(UsageError, match="does not take images"):
        plan_taps(net, torch.randn(2, 1, 16, 16))


def test_outputs_that_are_not_finite_are_refused(script):
    net = randomised(Net(lambda n, x: n.fc(mean(x)), fc=linear()), script)
    net.fc.bias.data[0] = float("nan")
    with pytest.raises(UsageError, match="not finite"):
        plan_taps(net, IMAGES)


def test_the_recipe_of_a_plain_network_says_no_more_than_it_did(script):
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


def test_a_network_that_cannot_be_looked_into():
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


def test_the_token_that_the_classifier_takes():
    plan = plan_taps(Tokens().eval(), IMAGES, (), ("avg", "std", "token"))
    assert plan.main == "token" and set(plan.columns) == {"token", "avg", "std"}


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("avg", lambda m: m.mean((2, 3))),
        ("max", lambda m: m.amax((2, 3))),
        ("std", lambda m: m.flatten(2).std(2)),
    ],
)
def test_pooling_of_maps(how, expected):
    maps = torch.randn(3, 5, 4, 2)
    assert torch.allclose(pool(maps, how), expected(maps), atol=1e-6)
    assert torch.allclose(pool(maps.permute(0, 2, 3, 1), how, 3), expected(maps), atol=1e-6)
