import pytest
import torch
from networks import CLASSES, IMAGES, Net, linear, mean, randomised, record, relative_error, timm_model
from torch import nn
from torch.nn import functional

from featood.extractors.taps import plan_taps


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
    "without a bias": (lambda n, x: n.fc(mean(x)), {"fc": nn.Linear(8, CLASSES, bias=False)}, "avg", 8),
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
def test_outputs_without_a_linear_classifier_are_logits_with_a_note(name, script):
    head, layers, width = NONLINEAR[name]
    net = randomised(Net(head, **layers), script)
    net.num_classes = CLASSES
    plan = plan_taps(net, IMAGES)
    assert plan.has_logits and plan.classifier(net) is None
    assert "no linear classifier: its outputs are stored as logits" in plan.note
    columns = record(net, plan)
    assert torch.equal(columns["logits"], net(IMAGES))
    assert columns[plan.main].shape[1] == width  # the columns are features, not logits


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
        assert row["spread"] > 0.01, name  # outputs must vary for a meaningful test


def test_distilled_heads_become_one_classifier_on_both_tokens(script):
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
