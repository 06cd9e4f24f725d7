"""Normalising flows of images as trained networks."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from featood.cache import FeatureCache
from featood.data import open_dataset
from featood.errors import UsageError
from featood.extractors.models import ImageBatch, Setup, create_model
from featood.extractors.models.network import TrainableNet
from featood.extractors.trainer import load_extractor
from featood.pipeline.train_plan import plan_of_recipe
from featood.pipeline.training import train
from featood.reporter import Reporter

TINY = {
    "approximate-flow": {"layers": 2},
    "glow": {"levels": 1, "steps": 1, "width": 4},
    "iresnet": {"levels": 1, "blocks": 1, "width": 4},
    "radial-flow": {"layers": 2},
    "realnvp": {"scales": 1, "width": 4, "blocks": 1},
}
SMALL = (
    "--dataset",
    "digits:0-2",
    "--limit",
    "60",
    "--epochs",
    "3",
    "--batch-size",
    "16",
    "--image-size",
    "8",
)


def tiny(name, classes=1, **options):
    """Return a model and its network, for images of 4 x 4 pixels."""
    model = create_model(name, TINY[name] | options)
    torch.manual_seed(0)
    net = model.network(Setup(classes, 0, (1, 4, 4), (0.5,), (0.5,)))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return model, TrainableNet(net.eval())


def batch(rows=6, classes=3):
    generator = torch.Generator().manual_seed(0)
    levels = torch.randint(0, 256, (rows, 1, 4, 4), generator=generator)
    return ImageBatch((levels / 255 - 0.5) / 0.5, torch.arange(rows) % classes)


@pytest.mark.parametrize("name", TINY)
def test_the_loss_and_the_errors_are_bits_per_dimension(name):
    model, net = tiny(name)
    images = batch()._replace(labels=torch.zeros(6, dtype=torch.long))
    noise = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    log_p = net.body.log_density(images.images, noise)[:, 0]
    torch.testing.assert_close(model.errors(net, images), -log_p / (16 * math.log(2)))
    torch.manual_seed(3)
    losses = model.losses(net, images)
    torch.manual_seed(3)
    noise = torch.rand(6, 1, 4, 4)
    log_p = net.body.log_density(images.images, noise, torch.default_generator)[:, 0]
    extra = losses.get("penalty", 0)
    torch.testing.assert_close(losses["loss"], -log_p.mean() / (16 * math.log(2)) + extra)
    assert torch.equal(net.body(images.images), net.body(images.images)), "scores are reproducible"


@pytest.mark.parametrize("name", TINY)
def test_preparing_and_images_that_were_not_scaled(name):
    model, net = tiny(name)
    before = float(model.errors(net, batch(64)).mean())
    model.prepare(net, [batch(40), batch(64)])
    assert float(model.errors(net, batch(64)).mean()) < before
    found = net(torch.cat([batch().images, 255 * torch.rand(3, 1, 4, 4), torch.full((1, 1, 4, 4), math.nan)]))
    assert torch.isfinite(found).all()
    assert (found[:6] > -1e4).all() and (found[6:] == torch.finfo(torch.float32).min).all()


def test_flows_of_classes():
    model, net = tiny("realnvp", 3, class_conditional=True, classification=2.0, likelihood=0.5)
    model.prepare(net, [batch(4), batch(5)])
    torch.testing.assert_close(net.body.log_shares.exp(), torch.tensor([4, 3, 2]) / 9)
    torch.manual_seed(3)
    losses = model.losses(net, batch())
    torch.manual_seed(3)
    noise, labels = torch.rand(6, 1, 4, 4), batch().labels
    joint = net.body.log_density(batch().images, noise)
    each = joint - torch.log(torch.tensor([4, 3, 2]) / 9)
    bits = -each[torch.arange(6), labels].mean() / (16 * math.log(2))
    entropy = -joint.log_softmax(1)[torch.arange(6), labels].mean()
    torch.testing.assert_close(losses["loss"], 0.5 * bits + 2 * entropy)
    model.classification, before = 0.0, losses["bits_per_dim"]
    torch.manual_seed(3)
    torch.testing.assert_close(model.losses(net, batch())["bits_per_dim"], before)
    noise = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    total = net.body.log_density(batch().images, noise).exp().sum(1).log()
    torch.testing.assert_close(model.errors(net, batch()), -total / (16 * math.log(2)))


def test_what_a_flow_of_classes_extracts(featood, tmp_path):
    folder = tmp_path / "net"
    options = (
        "--scales",
        "1",
        "--width",
        "4",
        "--blocks",
        "1",
        "--class-conditional",
        "--classification",
        "0.1",
    )
    code, out, err = featood("train", "realnvp", *SMALL, *options, "--out", folder)
    assert code == 0, err
    summary = json.loads((folder / "extractor.json").read_text())["summary"]
    assert f"bits per dim {summary['validation_bits_per_dim']:.4g} on held-out rows" in out
    assert "bits per dim" in (folder / "README.md").read_text()
    code, _, err = featood("extract", "--backbone", folder, "--dataset", "digits:0-2", "--split", "test",
                           "--cache", tmp_path / "cache", "--dtype", "float16")  # fmt: skip
    assert code == 0, err
    assert "bits per dim" in err
    rows = FeatureCache(tmp_path / "cache")["net/digits:0-2/test"]
    net, facts, _ = load_extractor(folder)
    images = open_dataset("digits:0-2", "test")
    with torch.inference_mode():
        latents = []
        net.body.latent.register_forward_hook(lambda *call: latents.append(call[2]))
        joint = net(facts.transform([images.read(row) for row in range(len(images))]))
    np.testing.assert_allclose(rows.logits[:], joint, rtol=1e-5, atol=1e-3)
    assert (
        set(rows.features) == {"penultimate", "log-density", "gradient-norm"} and rows.main == "penultimate"
    )
    np.testing.assert_allclose(rows.feature("penultimate")[:], latents[0], rtol=2e-3, atol=2e-3)
    density = rows.feature("log-density")[:]
    assert density.dtype == np.float32
    np.testing.assert_allclose(density[:, 0], joint.logsumexp(1), rtol=1e-5)
    code, out, err = featood("score", "--backbone", "net", "--dataset", "digits:0-2", "--head", "likelihood", "--head",
                             "msp", "--cache", tmp_path / "cache", "--ood", "digits:3-9")  # fmt: skip
    assert code == 0 and "likelihood" in out and "msp" in out, err


def test_training_on_does_not_initialise_again(tmp_path):
    how = {"dataset": "digits", "limit": 60, "image_size": 8, "epochs": 1, "options": TINY["glow"]}
    train("glow", out=tmp_path / "first", **how)
    train("glow", out=tmp_path / "second", initial=str(tmp_path / "first"), lr=0.0, **how)
    first, second = (load_extractor(tmp_path / name).net.state_dict() for name in ("first", "second"))
    assert first["body.flows.0.flows.1.log_scale"].abs().min() > 0
    assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_images_whose_size_is_not_known_have_32_pixels(featood, tmp_path):
    rng = np.random.default_rng(0)
    for number in range(12):
        place = tmp_path / "images" / "train" / "one"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8)).save(place / f"{number}.png")
    code, _, err = featood("train", "glow", "--dataset", tmp_path / "images", "--levels", "1", "--steps", "1",
                           "--width", "4", "--epochs", "1", "--out", tmp_path / "net")  # fmt: skip
    assert code == 0, err
    assert "inputs: resized to 32 x 32 x 3" in err
    assert load_extractor(tmp_path / "net").facts.transform.shape == (3, 32, 32)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("glow", "--levels", "4"), "choose a smaller --levels, or --image-size 16, a multiple of 16"),
        (("realnvp", "--scales", "5"), "choose a smaller --scales, or --image-size 16, a multiple of 16"),
        (("realnvp", "--classification", "1"), "add --class-conditional"),
        (("realnvp", "--class-conditional", "--likelihood", "0"), "there is no loss"),
        (("glow", "--arch", "lenet"), "has a network of its own"),
        (("glow", "--arch-option", "sn=true"), "leave out --arch and --arch-option"),
    ],
)
def test_mistakes(featood, tmp_path, words, text):
    code, _, err = featood("train", *words, *SMALL, "--out", tmp_path / "net")
    assert code == 2 and text in err and "Traceback" not in err
    assert not list(tmp_path.glob("net*"))


class Lines(Reporter):
    def __init__(self):
        self.lines = []

    def line(self, text):
        self.lines.append(text)


def test_recipes_of_flows():
    reporter = Lines()
    plan, options = plan_of_recipe("thesis-glow", dataset="cifar10", out="x", reporter=reporter)
    assert (plan.architecture.name, options.lr, options.clip) == ("glow", 1e-3, 0.0)
    assert reporter.lines[0].startswith("recipe thesis-glow: glow --levels 3 --steps 32 --width 512")
    plan, options = plan_of_recipe("thesis-realnvp", dataset="cifar10", out="x")
    assert plan.options["class_conditional"] and options.batch_size == 32


def test_options_of_a_flow_without_a_loss():
    with pytest.raises(UsageError, match="both 0"):
        create_model("realnvp", {"likelihood": 0.0})
