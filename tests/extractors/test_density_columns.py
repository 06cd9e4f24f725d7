"""Extra columns of densities of images, against loops over images."""

import numpy as np
import pytest
import torch
from torch import nn

from featood.cache import FeatureCache
from featood.errors import UsageError
from featood.extractors.extras import extras_from_json, extras_to_json
from featood.extractors.forward import ExtractOptions, Forward
from featood.extractors.gradient_norm import GradientNorm
from featood.extractors.perturb import Odin
from featood.extractors.trainer import Architecture, TrainOptions
from featood.extractors.transform import Transform
from featood.pipeline.train_plan import TrainPlan
from featood.pipeline.training import train_extractor

GREY = Transform(1, 8, 8, 0, (0.5,), (0.5,))


class Density(nn.Module):
    """A network with smooth activations that declares a density."""

    def __init__(self, outputs, column="log-density"):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(1, 3, 3, stride=2)
        self.fc = nn.Linear(27, outputs)
        if column:
            self.density_column = column

    def forward(self, x):
        return self.fc(self.conv(x).tanh().flatten(1))


def images(rows=4, seed=1):
    return torch.randn(rows, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def naive_norm(net, image, step=1e-5):
    """The norm of the gradient by central differences in float64."""

    def total(x):
        return float(np.log(np.exp(net(x[None])[0].detach().numpy()).sum()))

    squares = 0.0
    for place in np.ndindex(*image.shape):
        change = torch.zeros_like(image)
        change[place] = step
        squares += ((total(image + change) - total(image - change)) / (2 * step)) ** 2
    return squares**0.5


@pytest.mark.parametrize(("outputs", "column"), [(1, "log-density"), (3, "energy"), (3, "")])
def test_gradient_norms_are_those_of_differences(outputs, column):
    net, batch = Density(outputs, column).eval(), images()
    forward = Forward(net, batch, ExtractOptions(extras=[GradientNorm()]), GREY)
    found = forward(batch, 0)["gradient-norm"]
    expected = [naive_norm(net.double(), image.double()) for image in batch]
    assert found.shape == (4, 1)
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-4)
    assert extras_from_json(extras_to_json([GradientNorm()])) == (GradientNorm(),)


def test_gradient_norms_in_half_precision_do_not_underflow():
    net, batch = Density(3).eval(), images()
    with torch.no_grad():
        net.fc.weight *= 1e-6
    whole, half = (
        Forward(net, batch, ExtractOptions(extras=[GradientNorm()], precision=kind), GREY)(batch, 0)
        for kind in ("float32", "float16")
    )
    torch.testing.assert_close(half["gradient-norm"], whole["gradient-norm"])
    assert (half["gradient-norm"] > 0).all()


class Steps(Density):
    def forward(self, x):
        return super().forward(x.round().detach())


def test_what_a_column_needs_of_the_outputs():
    with pytest.raises(UsageError, match="the column odin needs logits, which this backbone does not return"):
        Forward(Density(1), images(), ExtractOptions(extras=[Odin()]), GREY)
    with pytest.raises(UsageError, match="gradient-norm needs logits or a density"):
        Forward(Density(1, ""), images(), ExtractOptions(extras=[GradientNorm()]), GREY)
    net = Steps(3).requires_grad_(False)
    with pytest.raises(UsageError, match="the column gradient-norm: the outputs have no gradient"):
        Forward(net, images(), ExtractOptions(extras=[GradientNorm()]), GREY)


@pytest.fixture(scope="module")
def energy(tmp_path_factory):
    """The folder of a network that declares an energy."""
    folder = tmp_path_factory.mktemp("energy") / "net"
    plan = TrainPlan(model="cd", dataset="digits", architecture=Architecture("lenet"), image_size=28, limit=40,
                     out=folder, options={"sgld_steps": 2, "buffer_size": 100})  # fmt: skip
    train_extractor(plan, TrainOptions(epochs=1, batch_size=20, optimizer="adam", lr=1e-3, validation=0.0))
    return folder


def test_extractions_with_densities_have_the_norm_unless_it_is_left_out(featood, energy, tmp_path):
    words = ("extract", "--backbone", str(energy), "--dataset", "digits", "--split", "test")
    code, out, err = featood(*words, "--cache", tmp_path / "a", "--dtype", "float16")
    assert code == 0 and "gradient-norm 1" in out and "energy 1" in out, err
    assert "so the column gradient-norm is added; --without gradient-norm leaves it out" in err
    rows = FeatureCache(tmp_path / "a")["net/digits/test"]
    assert {str(rows.features[name][:].dtype) for name in ("energy", "gradient-norm")} == {"float32"}
    code, out, err = featood(*words, "--cache", tmp_path / "b", "--without", "gradient-norm")
    assert code == 0 and "gradient-norm" not in out + err and "energy 1" in out
    code, _, err = featood(*words, "--without", "odin")
    assert code == 2 and "--without accepts the columns gradient-norm, not odin" in err
    code, _, err = featood(*words, "--without", "gradient-norm", "--with", "gradient-norm")
    assert code == 2 and "--with and --without both name gradient-norm" in err
