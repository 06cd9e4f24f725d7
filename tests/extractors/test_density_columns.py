"""Extra columns of densities of images, against loops over images."""

import shutil

import numpy as np
import pytest
import scipy.stats
import torch
from PIL import Image, features
from torch import nn

from featood.cache import FeatureCache
from featood.data import open_dataset
from featood.errors import Mismatch, UsageError
from featood.extractors.background import Background
from featood.extractors.complexity import COMPRESSORS, Complexity, available_compressors, compressed_bits
from featood.extractors.extras import Setting, extras_from_json, extras_to_json
from featood.extractors.forward import ExtractOptions, Forward
from featood.extractors.gradient_norm import GradientNorm
from featood.extractors.perturb import Odin
from featood.extractors.trainer import Architecture, TrainOptions, load_extractor
from featood.extractors.trainer.augmentation import parse_augmentations
from featood.extractors.transform import Transform
from featood.heads import create_head
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


def trained(folder, model="cd", mean=(0.2,), std=(0.7,), **how):
    """Train a network for one epoch; a `cd` declares an energy."""
    plan = TrainPlan(model=model, dataset="digits", architecture=Architecture("lenet"), image_size=28, limit=40,
                     out=folder, options={"sgld_steps": 2, "buffer_size": 100} if model == "cd" else {},
                     mean=mean, std=std)  # fmt: skip
    train_extractor(
        plan, TrainOptions(epochs=1, batch_size=20, optimizer="adam", lr=1e-3, validation=0.0, **how)
    )
    return folder


@pytest.fixture(scope="module")
def energy(tmp_path_factory):
    """The folder of a network that declares an energy."""
    return trained(tmp_path_factory.mktemp("energy") / "net", mean=None, std=None)


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


def pictures(channels, seed=0):
    """A constant, a ramp of all grey values, and noise, as uint8 ``[B, 16, 16, C]``."""
    noise = np.random.default_rng(seed).integers(0, 256, (16, 16, channels), dtype=np.uint8)
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(channels, 2)
    return np.stack([np.full_like(noise, 77), ramp, noise])


@pytest.mark.parametrize("channels", [1, 3])
def test_the_complexity_is_the_length_of_the_shortest_file_without_losses(channels, tmp_path):
    batch, mode = pictures(channels), "RGB" if channels == 3 else "L"
    colours = (0.4914, 0.48, 0.44)[:channels], (0.2, 0.3, 0.1)[:channels]
    transform = Transform(channels, 16, 16, 0, *colours)
    found = Complexity()(nn.Identity(), transform.normalise(batch), 0, Setting(transform))["complexity"]
    for image, bits in zip(batch, found[:, 0], strict=True):
        sizes = []
        for name in available_compressors():
            path = tmp_path / f"image.{ {'jpeg2000': 'j2k'}.get(name, name) }"
            Image.fromarray(image.squeeze()).save(path, **COMPRESSORS[name])
            with Image.open(path) as again:
                np.testing.assert_array_equal(np.asarray(again.convert(mode)), image.squeeze())
            sizes.append(8 * path.stat().st_size)
        assert int(bits) == min(sizes)
    assert found[0] < found[1] < found[2] and found[2] > 8 * batch[0].size


def test_the_compressors_are_part_of_the_recipe(monkeypatch):
    extra = Complexity(("png",))
    json = extras_to_json([extra])
    assert json == {"complexity": {"compressors": ["png"]}} and extras_from_json(json) == (extra,)
    assert "png" in Complexity().compressors
    monkeypatch.setattr(features, "check", lambda name: name == "zlib")
    assert Complexity().compressors == ("png",)
    with pytest.raises(UsageError, match="made with webp, which this installation of Pillow cannot write"):
        extras_from_json({"complexity": {"compressors": ["png", "webp"]}})
    with pytest.raises(UsageError, match="complexity needs a known transform"):
        extra(nn.Identity(), images(), 0, Setting())


def test_complexities_are_those_of_resized_images(featood, energy, toy_images, tmp_path):
    code, _, err = featood("extract", "--backbone", str(energy), "--dataset", "toy", "--split", "test", "--cache",
                           tmp_path, "--with", "complexity")  # fmt: skip
    assert code == 0, err
    rows = FeatureCache(tmp_path)["net/toy/test"]
    assert rows.origin.recipe["extras"]["complexity"] == {"compressors": list(available_compressors())}
    shown, transform = open_dataset("toy", "test"), load_extractor(energy).facts.transform
    expected = [
        compressed_bits(transform.pixels(shown.read(row)), available_compressors()) for row in range(9)
    ]
    np.testing.assert_array_equal(rows.features["complexity"][:9, 0], expected)


def test_the_background_is_the_density_of_the_other_network(featood, energy, tmp_path):
    other = trained(tmp_path / "other", augment=("mutate:0.3",))
    words = ("extract", "--backbone", str(energy), "--dataset", "digits", "--split", "test")
    code, out, err = featood(*words, "--background", other, "--cache", tmp_path / "c")
    assert code == 0 and "background.energy 1" in out, err
    rows, shown = FeatureCache(tmp_path / "c")["net/digits/test"], open_dataset("digits", "test")
    net, facts, _ = load_extractor(other)
    assert facts.transform.mean == (0.2,) != load_extractor(energy).facts.transform.mean
    expected = []
    for row in range(20):
        with torch.no_grad():
            outputs = net(facts.transform([shown.read(row)]))[0].double().numpy()
        expected.append(-np.log(np.exp(outputs).sum()))
    np.testing.assert_allclose(rows.features["background.energy"][:20, 0], expected, rtol=1e-4, atol=1e-5)
    scores = create_head("likelihood-ratio").score(rows)
    difference = rows.features["energy"][:, 0] - rows.features["background.energy"][:, 0]
    np.testing.assert_allclose(scores, difference, rtol=1e-5, atol=1e-5)
    moved = shutil.copytree(other, tmp_path / "moved")
    code, out, err = featood(*words, "--background", moved, "--cache", tmp_path / "c")
    assert code == 0 and "already cached" in out, err
    code, _, err = featood(*words, "--background", energy, "--cache", tmp_path / "c")
    assert code == 5 and "extras" in err
    former = Background.of(other)
    shutil.rmtree(other)
    shutil.copytree(energy, other)
    assert Background.of(other).sha256 == Background.of(energy).sha256 != former.sha256


def test_networks_that_are_no_background(energy, tmp_path):
    facts = load_extractor(energy).facts
    with pytest.raises(Mismatch, match="not the one with which the cache was made"):
        Background("0" * 64, str(energy))(nn.Identity(), images(), 0, Setting(facts.transform))
    with pytest.raises(Mismatch, match="takes images of 1 x 28 x 28, not 1 x 8 x 8"):
        Background.of(energy)(nn.Identity(), images(), 0, Setting(GREY))
    with pytest.raises(UsageError, match="background needs a known transform"):
        Background.of(energy)(nn.Identity(), images(), 0, Setting())
    with pytest.raises(UsageError, match="contains no network trained by featood train"):
        Background.of(tmp_path)
    other = trained(tmp_path / "other", "cross-entropy")
    with pytest.raises(UsageError, match="trained by cross-entropy, which is not a density"):
        Background.of(other)


def test_mutations_are_uniform_and_as_frequent_as_asked_for():
    (change,) = parse_augmentations(["mutate:0.3"])
    image = np.full((200, 200, 3), 7, np.uint8)
    changed = change(image, np.random.default_rng(0))
    assert changed.dtype == np.uint8 and changed.shape == image.shape
    # a uniform value is the old one in 1 of 256 cases; each of three channels is changed on its own
    counts = np.bincount(changed.ravel(), minlength=256)
    assert abs((changed != image).mean() - 0.3 * 255 / 256) < 0.005
    assert scipy.stats.chisquare(np.delete(counts, 7)).pvalue > 1e-3
    assert abs((changed != image).all(2).mean() - 0.3**3) < 0.005
    np.testing.assert_array_equal(
        parse_augmentations(["mutate:0"])[0](image, np.random.default_rng(0)), image
    )
    for text in ("mutate", "mutate:", "mutate:2", "mutate:x", "mutate:nan", "mutate:-1"):
        with pytest.raises(UsageError, match=f"'{text}' is no augmentation; mutate takes a probability"):
            TrainOptions(augment=(text,))
