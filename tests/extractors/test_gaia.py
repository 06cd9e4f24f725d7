"""Columns of gradients at normalisation layers."""

import copy

import numpy as np
import pytest
import torch
from test_extraction_columns import run
from torch import nn

from featood.data import open_dataset
from featood.errors import UsageError
from featood.extractors.extras import extras_from_json, extras_to_json
from featood.extractors.forward import ExtractOptions, Forward
from featood.extractors.gaia import AverageAbnormality, ZeroDeflation, zero_deflation
from featood.heads import create_head

BOTH = (ZeroDeflation(), AverageAbnormality())


class Stage(nn.Sequential):
    def __init__(self, inside, outside, inplace):
        super().__init__(nn.Conv2d(inside, outside, 3), nn.BatchNorm2d(outside), nn.ReLU(inplace))


class Stages(nn.Module):
    def __init__(self, inplace=False):
        super().__init__()
        self.one, self.two = Stage(3, 4, inplace), Stage(4, 5, inplace)
        self.fc = nn.Linear(5, 3)

    def forward(self, x):
        return self.fc(self.two(self.one(x)).mean((2, 3)))


@pytest.fixture
def nets():
    """The same network with and without activations in place, with running statistics that are not the initial ones."""
    torch.manual_seed(0)
    net = Stages()
    net(torch.randn(50, 3, 8, 8))
    other = Stages(True)
    other.load_state_dict(net.state_dict())
    return net.eval(), other.eval()


IMAGES = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def naive(net, image, stages=("one", "two")):
    """Both scores of one image, by separate float64 passes of each stage, from its normalised map on."""
    net = copy.deepcopy(net).double()
    norms, rest, x = {}, {}, image.double()[None]
    for name in ("one", "two"):
        conv, norm, relu = net.get_submodule(name)
        norms[name] = norm(conv(x)).detach().requires_grad_()
        x = relu(norms[name]).detach()
    rest["two"] = lambda z: z.relu().mean((2, 3))
    rest["one"] = lambda z: rest["two"](net.two[1](net.two[0](z.relu())))
    zeros, averages = [], []
    for name in stages:
        z = norms[name]
        (gradient,) = torch.autograd.grad(net.fc(rest[name](z)).max(), z)
        zeros += [sum(float(v != 0) for v in one.flatten()) / one.numel() for one in gradient[0]]
        (gradient,) = torch.autograd.grad(rest[name](z).sum(), z)
        averages += [float(one.mean()) for one in gradient[0]]
    features = rest["two"](norms["two"]).detach().requires_grad_()
    (outer,) = torch.autograd.grad(net.fc(features).softmax(1).log().sum(), features)
    size = np.mean([abs(float(value)) for value in outer[0]])
    return np.mean(np.square(zeros)), np.mean(np.square(averages)) / size


@pytest.mark.parametrize("taps", [(), ("two",)])
@pytest.mark.parametrize("inplace", [False, True])
def test_gaia_against_a_loop(nets, taps, inplace):
    forward = Forward(nets[inplace], IMAGES, ExtractOptions(taps=taps, extras=BOTH))
    columns = forward(IMAGES, 0)
    for row, image in enumerate(IMAGES):
        expected = naive(nets[0], image, taps or ("one", "two"))
        np.testing.assert_allclose(columns["gaia-z"][row, 0], expected[0], rtol=1e-5)
        np.testing.assert_allclose(columns["gaia-a"][row, 0], expected[1], rtol=1e-4)


class Joined(nn.BatchNorm2d):
    """A layer with its activation, as in timm."""

    def __init__(self, norm):
        super().__init__(norm.num_features)
        self.load_state_dict(norm.state_dict())
        self.act = nn.ReLU(True)

    def forward(self, x):
        return self.act(super().forward(x))


def test_gaia_of_layers_that_contain_their_activation(nets):
    joined = copy.deepcopy(nets[0])
    for stage in (joined.one, joined.two):
        stage[1], stage[2] = Joined(stage[1]).eval(), nn.Identity()
    found, expected = (
        Forward(net, IMAGES, ExtractOptions(extras=BOTH))(IMAGES, 0) for net in (joined, nets[0])
    )
    for name in ("gaia-z", "gaia-a"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5)


def test_gaia_does_not_depend_on_the_batch_or_frozen_weights(nets):
    together = zero_deflation(nets[0], IMAGES)
    alone = torch.cat([zero_deflation(nets[0], image[None]) for image in IMAGES])
    np.testing.assert_allclose(together, alone, rtol=1e-6)
    frozen = copy.deepcopy(nets[0]).requires_grad_(False)
    np.testing.assert_array_equal(zero_deflation(frozen, IMAGES), together)
    assert all(value.grad is None for value in nets[0].parameters())


def test_gaia_needs_normalised_maps(nets):
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)).eval()
    for extra in BOTH:
        with pytest.raises(
            UsageError, match=f"column {extra.kind} needs layers of batch or group normalisation"
        ):
            Forward(plain, IMAGES, ExtractOptions(extras=[extra]))
        with pytest.raises(UsageError, match=r"normalisation of maps in one\.0"):
            Forward(nets[0], IMAGES, ExtractOptions(taps=("one.0",), extras=[extra]))


def test_gaia_columns_are_extracted_and_scored(tmp_path, toy_images):
    test = run(tmp_path / "c", open_dataset("toy", "test"), extras=BOTH)
    for name in ("gaia-z", "gaia-a"):
        assert test.features[name].shape[1] == 1 and test.features[name].dtype == np.float32
        scores = create_head(name).score(test)
        np.testing.assert_array_equal(scores, test.features[name][:, 0])
        assert scores.std() > 0
    assert extras_from_json(extras_to_json(BOTH)) == BOTH
