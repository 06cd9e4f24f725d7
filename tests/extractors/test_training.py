"""Training on images: what results is the same whatever interrupts it."""

import csv
import json
import math
import os

import numpy as np
import pytest
import torch

from featood.data import open_dataset
from featood.errors import DataError, Mismatch, UsageError
from featood.extractors.models import SplitNet
from featood.extractors.trainer import Architecture, TrainOptions, is_extractor, load_extractor
from featood.extractors.trainer.options import optimizer_of, schedule_of
from featood.nets import create_net
from featood.pipeline.train_plan import TrainPlan
from featood.pipeline.training import train_extractor
from featood.reporter import Reporter

HOW = {"epochs": 3, "batch_size": 64, "lr": 0.05, "augment": ("crop:2", "randaugment")}


def plan(out, **changes):
    given = {
        "model": "cross-entropy",
        "dataset": "digits",
        "architecture": Architecture("lenet"),
        "limit": 300,
    }
    return TrainPlan(**{**given, "image_size": 28, "out": out, **changes})


def words(out, *more, model="cross-entropy"):
    return [
        *(
            "train",
            model,
            "--arch",
            "lenet",
            "--dataset",
            "digits",
            "--limit",
            "300",
            "--image-size",
            "28",
        ),
        *("--batch-size", "64", "--lr", "0.05", "--out", str(out), *more),
    ]


def losses(folder):
    with open(folder / "history.csv") as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


def same(one, other):
    assert losses(one) == losses(other)
    for name in ("model.safetensors", "last.safetensors"):
        assert (one / name).read_bytes() == (other / name).read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "net"
    train_extractor(plan(folder), TrainOptions(**HOW, mixup=0.2, cutmix=1.0, average=0.9))
    return folder


class Interrupting(Reporter):
    def __init__(self, at):
        self.at = at

    def progress(self, what, done, total, **figures):
        if done == self.at:
            raise KeyboardInterrupt


@pytest.mark.parametrize("at", [1, 4, 7])
def test_an_interrupted_training_ends_as_an_uninterrupted_one(tmp_path, whole, at):
    how = TrainOptions(**HOW, mixup=0.2, cutmix=1.0, average=0.9)
    with pytest.raises(KeyboardInterrupt):
        train_extractor(plan(tmp_path / "net"), how, reporter=Interrupting(at))
    assert not is_extractor(tmp_path / "net")
    train_extractor(plan(tmp_path / "net"), how)
    same(whole, tmp_path / "net")
    assert os.listdir(tmp_path) == ["net"]


def test_the_number_of_workers_does_not_matter(tmp_path, whole):
    train_extractor(
        plan(tmp_path / "net"), TrainOptions(**HOW, mixup=0.2, cutmix=1.0, average=0.9, workers=2)
    )
    same(whole, tmp_path / "net")


def images_in(folder, broken=()):
    from PIL import Image

    rng = np.random.default_rng(0)
    for kind in "ab":
        (folder / "train" / kind).mkdir(parents=True)
        for number in range(12):
            path = folder / "train" / kind / f"{number:02}.png"
            Image.fromarray(rng.integers(128 if kind == "a" else 256, size=(28, 28), dtype=np.uint8)).save(
                path
            )
            if f"{kind}/{path.name}" in broken:
                path.write_bytes(path.read_bytes()[:60])
    return str(folder)


class Lines(Reporter):
    def __init__(self):
        self.lines = []

    def line(self, text):
        self.lines.append(text)


@pytest.mark.parametrize("workers", [0, 2])
def test_images_that_cannot_be_read_are_left_out_and_named(tmp_path, workers):
    broken = ("a/03.png", "b/00.png")
    whole = images_in(tmp_path / "whole", broken)
    how = TrainOptions(epochs=2, batch_size=8, lr=0.01, workers=workers)
    given = {"dataset": whole, "limit": 0}
    with pytest.raises(DataError, match=r"a/03.png .*omit --strict to skip"):
        train_extractor(plan(tmp_path / "net", **given, strict=True), how)
    said = Lines()
    train_extractor(plan(tmp_path / "net", **given), how, reporter=said)
    assert "warning: 2 of 24 images could not be read and are left out:" in said.lines
    facts = load_extractor(tmp_path / "net").facts
    assert facts.data["unreadable"] == list(broken) and facts.data["images"] == 22
    for name in broken:
        (tmp_path / "whole" / "train" / name).unlink()
    train_extractor(plan(tmp_path / "without", **given), how)
    same(tmp_path / "without", tmp_path / "net")


def test_a_repetition_resumes_and_counts_what_failed(featood, tmp_path, monkeypatch):
    from featood.metrics import mean_and_error
    from featood.pipeline import repeated_training

    def failing(own, how, **more):
        if how.seed == 4:
            raise RuntimeError("out of\nmemory")
        return train_extractor(own, how, **more)

    monkeypatch.setattr(repeated_training, "train_extractor", failing)
    given = words(tmp_path / "nets", "--epochs", "1", "--repeat", "3", "--seed", "3")
    code, out, err = featood(*given)
    assert code == 0 and "seed 4 failed: RuntimeError: out of memory" in out and "2 of 3 networks" in out, err
    found = {seed: load_extractor(tmp_path / "nets" / f"seed-{seed}").summary for seed in (3, 5)}
    mean, error = mean_and_error([summary["validation_accuracy"] for summary in found.values()])
    assert f"validation accuracy: {100 * mean:.4g} ±{100 * error:.2g} % over 2 seeds" in out
    times = {
        seed: os.stat(tmp_path / "nets" / f"seed-{seed}" / "extractor.json").st_mtime_ns for seed in (3, 5)
    }
    monkeypatch.undo()
    code, out, err = featood(*given, "--json")
    assert code == 0 and set(json.loads(out)["runs"]) == {"3", "4", "5"}, err
    for seed, modified in times.items():
        assert os.stat(tmp_path / "nets" / f"seed-{seed}" / "extractor.json").st_mtime_ns == modified
    code, _, err = featood(*given, "--min-lr", "0.01")
    assert code == 2 and "trained with other settings (min_lr)" in err


def test_the_checkpoint_stays_until_the_network_is_saved(tmp_path, monkeypatch):
    from featood.pipeline import training

    def full(*_):
        raise OSError(28, "No space left on device")

    how = TrainOptions(**HOW)
    with monkeypatch.context() as patch:
        patch.setattr(training, "save_extractor", full)
        with pytest.raises(OSError, match="No space"):
            train_extractor(plan(tmp_path / "net"), how)
    assert (tmp_path / "net.training" / "checkpoint.json").exists()
    train_extractor(plan(tmp_path / "net"), how)
    train_extractor(plan(tmp_path / "whole"), how)
    same(tmp_path / "whole", tmp_path / "net")


def test_one_of_several_processes_writes(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    train_extractor(plan(tmp_path / "net"), TrainOptions(epochs=1))
    assert not os.listdir(tmp_path)


def test_parts_have_learning_rates_of_their_own(tmp_path):
    how = {"lr_of": ("fc1=0", "fc1.bias=0.2", "parts.prototypes=0.3"), "epochs": 1, "schedule": "constant"}
    with pytest.raises(UsageError, match=r"no weight is in the part 'parts.prototypes' \(there are: .*fc1"):
        train_extractor(plan(tmp_path / "net"), TrainOptions(**how))
    options = TrainOptions(**{**how, "lr_of": how["lr_of"][:2], "weight_decay": 0.0, "momentum": 0.0}, lr=0.1)
    net = SplitNet(create_net("lenet", 10, 1, torch.Generator().manual_seed(0)))
    before = {name: value.detach().clone() for name, value in net.named_weights().items()}
    optimizer = optimizer_of(net, options)
    for value in net.parameters():
        value.grad = torch.ones_like(value)
    optimizer.step()
    for name, value in net.named_weights().items():
        rate = 0.2 if name == "fc1.bias" else 0 if name.startswith("fc1.") else 0.1
        torch.testing.assert_close(value.detach(), before[name] - rate)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"lr_of": ("fc",)}, "PART=RATE"),
        ({"lr_of": ("fc=-1",)}, "PART=RATE"),
        ({"lr_of": ("fc=nan",)}, "PART=RATE"),
        ({"lr_of": ("fc=1", "fc=2")}, "a part twice"),
        ({"lr": 0.1, "min_lr": 0.2}, "at most lr, 0.1"),
    ],
)
def test_wrong_learning_rates_are_named(given, text):
    with pytest.raises(UsageError, match=text):
        TrainOptions(**given)


def test_the_cosine_ends_at_the_lowest_rate():
    options = TrainOptions(lr=0.1, min_lr=1e-3)
    found = [0.1 * schedule_of(options, 10, 100)(step) for step in range(101)]
    expected = [1e-3 + (0.1 - 1e-3) * (1 + math.cos(math.pi * step / 100)) / 2 for step in range(101)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_other_settings_do_not_resume_a_training(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train_extractor(plan(tmp_path / "net"), TrainOptions(**HOW), reporter=Interrupting(6))
    with pytest.raises(Mismatch, match="other settings \\(lr\\)"):
        train_extractor(plan(tmp_path / "net"), TrainOptions(**{**HOW, "lr": 0.1}))


@pytest.mark.parametrize(
    ("changes", "how", "error", "text"),
    [
        ({"model": "cross-entropi"}, {}, UsageError, "did you mean cross-entropy"),
        ({"options": {"smoothing": 2.0}}, {}, UsageError, "at most 1, not 2.0"),
        ({"options": {"margin": 2.0}}, {}, UsageError, "has no option 'margin'"),
        ({"architecture": Architecture("lenett")}, {}, UsageError, "no architecture 'lenett'"),
        (
            {"architecture": Architecture("timm:resnet10t", {"checkpoint_path": "x"})},
            {},
            UsageError,
            "reads files",
        ),
        (
            {"architecture": Architecture("lenet", {"depth": 3})},
            {},
            UsageError,
            "lenet has no option 'depth'",
        ),
        ({"model": "outlier-exposure"}, {}, UsageError, "needs outliers to train on"),
        ({"model": "logit-norm"}, {"mixup": 0.2}, UsageError, "cannot be trained on mixed images"),
        ({"dataset": "noise"}, {}, DataError, "without a label"),
        (
            {"architecture": Architecture("cifar-vgg11")},
            {},
            UsageError,
            "cannot take images of 28 x 28 pixels",
        ),
    ],
)
def test_mistakes_are_one_line(tmp_path, changes, how, error, text):
    with pytest.raises(error, match=text):
        train_extractor(plan(tmp_path / "net", **changes), TrainOptions(epochs=1, **how))
    assert not os.listdir(tmp_path)


def test_a_loader_is_in_no_cycle_of_references():
    """The garbage collector would take seconds to end its workers."""
    import gc
    import weakref

    from featood.extractors.trainer.loader import ImageLoader
    from featood.extractors.transform import Transform
    from featood.training.batches import Batches

    images = open_dataset("digits", "test").subset(range(20))
    gc.disable()
    try:
        loader = ImageLoader(images, Transform(1, 8, 8, 0, (0.5,), (0.5,)), Batches(20, 5, 0), 4)
        loader(0)
        seen = weakref.ref(loader)
        del loader
        assert seen() is None
    finally:
        gc.enable()
