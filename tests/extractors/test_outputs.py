import collections
import types

import pytest
import torch
from networks import CLASSES, IMAGES, Net, linear, mean, randomised, record, relative_error, timm_model
from torch import nn
from torch.nn import functional

from featood.errors import UsageError
from featood.extractors.dropout import dropout_logits
from featood.extractors.outputs import class_outputs
from featood.extractors.perturb import odin_logits
from featood.extractors.taps import plan_taps


def test_the_kind_of_outputs_can_be_given(script):
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
    with pytest.raises(UsageError, match="outputs must be one of"):
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
def test_outputs_that_are_not_classes_are_recognised_with_a_note(name, script):
    head, layers, kind = OTHERS[name]
    net = randomised(Net(head, **layers), script)
    plan = plan_taps(net, IMAGES)
    assert (plan.outputs, plan.has_logits, plan.classifier(net)) == (kind, False, None)
    assert kind in plan.note
    assert "logits" not in record(net, plan)


def test_timm_models_without_classes(script):
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


def test_the_kind_of_outputs_of_a_wrapped_network(script):
    head, layers = (lambda n, x: mean(n.score(x).relu())), {"score": nn.Conv2d(8, CLASSES, 1)}
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
    with pytest.raises(UsageError, match="remove its softmax"):
        plan_taps(net, IMAGES)
    assert plan_taps(net, IMAGES, outputs="features").main == "output"


Outputs = collections.namedtuple("Outputs", ["logits", "aux_logits"])
ROWS, OTHER = torch.randn(4, 5), torch.randn(4, 8)


class OrderedOutputs(collections.OrderedDict):
    """Outputs like those of transformers."""

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
def test_selecting_the_outputs_of_a_network(output):
    assert torch.equal(class_outputs(output), ROWS)


@pytest.mark.parametrize(
    ("output", "text"),
    [
        ({"a": ROWS, "b": OTHER}, "a: "),
        ([torch.randn(4, 3, 5, 5), torch.randn(4, 6, 2, 2)], "cannot be identified"),
        (torch.randn(4, 21, 8, 8), "maps or tokens"),
        ([{"boxes": OTHER}, {"boxes": OTHER}], "cannot be identified"),
        (None, "NoneType"),
        (types.SimpleNamespace(scores=ROWS), "SimpleNamespace"),
    ],
)
def test_ambiguous_outputs_are_refused(output, text):
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


def test_features_returned_before_logits_are_not_used_as_logits(script):
    net = randomised(Net(lambda n, x: (mean(x), n.fc(mean(x))), fc=linear()), script)
    with pytest.raises(UsageError, match="the first is not from a linear classifier"):
        plan_taps(net, IMAGES)
