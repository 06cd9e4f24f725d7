"""Columns for neuron activation coverage."""

import copy

import numpy as np
import pytest
import torch
from test_extraction_columns import run
from torch import nn

from featood.data import open_dataset
from featood.extractors.columns import Tap
from featood.extractors.extras import extras_from_json, extras_to_json
from featood.extractors.layout import Layout
from featood.extractors.nac import Coverage, coverage_states
from featood.extractors.taps import plan_taps
from featood.extractors.trace import Place
from featood.heads import create_head


class Stages(nn.Module):
    """Two stages of maps, with an in-place activation after the first, and a linear head."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3)
        self.fc = nn.Linear(5, 4)

    def forward(self, x):
        return self.fc(self.two(torch.tanh(self.one(x))).relu().mean((2, 3)))


def naive_states(net, image):
    """Return z and dKL/dz of one image in float64, both summed over positions as by the authors."""
    net, found = copy.deepcopy(net).double(), {}
    for name in ("one", "two"):
        seen = {}
        hook = net.get_submodule(name).register_forward_hook(lambda _, __, out, s=seen: s.update(z=out))
        logits = net(image.double()[None])[0]
        hook.remove()
        kl = sum(0.25 * (0.25 / p).log() for p in logits.softmax(0))
        (gradient,) = torch.autograd.grad(kl, seen["z"])
        z = seen["z"][0].detach()
        found[name] = z.sum((1, 2)) * gradient[0].sum((1, 2)) / z[0].numel()
    return found


@pytest.mark.parametrize("frozen", [False, True])
def test_coverage_states_against_a_loop(frozen):
    torch.manual_seed(0)
    net, images = Stages().eval(), torch.randn(4, 3, 8, 8)
    expected = [naive_states(net, image) for image in images]
    net.requires_grad_(not frozen)
    plan = plan_taps(net, images, ("one", "two"))
    found = coverage_states(net, images, plan.taps)
    for name in ("one", "two"):
        np.testing.assert_allclose(found[name], torch.stack([row[name] for row in expected]), rtol=1e-4)
    half = torch.autocast("cpu", torch.bfloat16)
    with half:
        again = coverage_states(net, images, plan.taps)
    np.testing.assert_array_equal(again["one"], found["one"])


class Tokens(nn.Module):
    """Leading tokens before the patches of an image; the logits depend on all of them."""

    def __init__(self, prefix):
        super().__init__()
        self.prefix = nn.Parameter(torch.randn(prefix, 5))
        self.patches, self.block, self.fc = nn.Conv2d(3, 5, 4, 4), nn.Identity(), nn.Linear(5, 4)

    def forward(self, x):
        patches = self.patches(x).flatten(2).mT
        tokens = self.block(torch.cat([self.prefix.expand(len(x), -1, -1), patches], 1))
        return self.fc(tokens[:, 0] * tokens.exp().mean(1))


@pytest.mark.parametrize(
    ("prefix", "registers", "taken"),
    [(1, 0, [0]), (3, 2, [0]), (2, 2, [2, 3, 4, 5]), (0, 0, [0, 1, 2, 3])],
    ids=["class token", "class token and registers", "registers", "patches"],
)
def test_of_tokens_the_class_token_is_taken_else_the_patches(prefix, registers, taken):
    torch.manual_seed(0)
    net, images = Tokens(prefix).eval(), torch.randn(4, 3, 8, 8)
    tap = Tap(Place("block", "output"), Layout(2, prefix, registers))
    found = coverage_states(net, images, {"block": tap})["block"]
    for image, row in zip(images.double(), found, strict=True):
        exact, seen = copy.deepcopy(net).double(), []
        exact.block.register_forward_hook(lambda _, __, out, seen=seen: seen.append(out))
        kl = sum(0.25 * (0.25 / p).log() for p in exact(image[None])[0].softmax(0))
        (gradient,) = torch.autograd.grad(kl, seen)
        z = sum(seen[0][0, place] for place in taken) / len(taken)
        expected = z * sum(gradient[0, place] for place in taken)
        np.testing.assert_allclose(row, expected.detach(), rtol=1e-4)


def test_a_class_token_without_effect_is_not_taken():
    """Of a BEiT that pools its patches, the last block has its patches, and the first its class token."""
    from featood.extractors.vision import timm

    torch.manual_seed(0)
    net = timm.create_model(
        "beit_base_patch16_224", img_size=32, patch_size=8, embed_dim=12, depth=2, num_heads=2, num_classes=4
    ).eval()
    nn.init.normal_(net.head.weight)
    images = torch.randn(3, 3, 32, 32)
    taps = plan_taps(net, images, ("blocks.0", "blocks.1")).taps
    assert {tuple(tap.layout) for tap in taps.values()} == {(2, 1, 0)}
    found = coverage_states(net, images, taps)
    exact, seen = copy.deepcopy(net).double(), {}
    for name in taps:
        exact.get_submodule(name).register_forward_hook(lambda _, __, out, at=name: seen.update({at: out}))
    for row, image in enumerate(images.double()):
        kl = sum(0.25 * (0.25 / p).log() for p in exact(image[None])[0].softmax(0))
        first, last = torch.autograd.grad(kl, [seen["blocks.0"], seen["blocks.1"]])
        np.testing.assert_array_equal(last[0, 0], 0)
        patches = sum(seen["blocks.1"][0, place] for place in range(1, 17)) / 16
        for name, expected in (
            ("blocks.0", seen["blocks.0"][0, 0] * first[0, 0]),
            ("blocks.1", patches * sum(last[0, place] for place in range(1, 17))),
        ):
            expected = expected.detach().numpy()
            np.testing.assert_allclose(found[name][row], expected, rtol=1e-3, atol=1e-5 * abs(expected).max())


def test_coverage_columns_are_extracted_and_scored(tmp_path, toy_images):
    taps = ("layer2", "layer3")
    train, test = (
        run(tmp_path / "c", open_dataset("toy", split), taps=taps, extras=[Coverage()])
        for split in ("train", "test")
    )
    assert {name: train.features[f"{name}.nac"].shape[1] for name in taps} == {"layer2": 32, "layer3": 64}
    with pytest.warns(UserWarning, match="layer3.nac"):  # its average is the input of the classifier
        head = create_head("nac").fit(train)
    assert set(head.record.sizes) == {"avg", "layer2.nac"}
    scores = head.score(test)
    assert ((scores >= -1) & (scores <= 0)).all() and scores.std() > 0
    assert extras_from_json(extras_to_json([Coverage()])) == (Coverage(),)


def test_coverage_columns_need_stages(featood, toy_images):
    words = ("extract", "--backbone", "cifar-resnet20", "--weights", "random", "--dataset", "toy")
    code, _, err = featood(*words, "--with", "nac")
    assert code == 2 and "--tap" in err
    code, _, err = featood(*words, "--with", "nac,odd")
    assert code == 2 and "gradient-norm, complexity, regret, not odd" in err
    code, out, err = featood(*words, "--with", "odin,nac", "--tap", "layer1", "--split", "train")
    assert code == 0 and "layer1.nac 16" in out and "odin 10" in out, err
