"""Training on images: what results is the same whatever interrupts it, and however many processes share it."""

import csv
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import featood
from featood.errors import DataError, Mismatch, UsageError
from featood.extractors.models import SplitNet, create_model
from featood.extractors.trainer import Architecture, TrainOptions, is_extractor, load_extractor
from featood.extractors.trainer.networks import trainable_net
from featood.extractors.trainer.options import optimizer_of, schedule_of
from featood.extractors.transform import Transform
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


def words(out, *more):
    return [
        *(
            "train",
            "cross-entropy",
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


ONE = [sys.executable, "-m", "featood"]
TWO = [
    sys.executable,
    "-m",
    "torch.distributed.run",
    "--standalone",
    "--nproc-per-node",
    "2",
    "-m",
    "featood",
]
DISTRIBUTED = pytest.mark.skipif(
    not torch.distributed.is_available(), reason="torch has no torch.distributed"
)


SCRIPT = """
import json, sys
from pathlib import Path
from featood.extractors.trainer import Architecture, TrainOptions, processes
from featood.pipeline.train_plan import TrainPlan
from featood.pipeline.training import train_extractor

with processes(cuda=False):
    for job in json.loads(Path(sys.argv[1]).read_text()):
        how = {key: tuple(value) if isinstance(value, list) else value for key, value in job.pop("how").items()}
        train_extractor(TrainPlan(**{**job, "architecture": Architecture("lenet"), "out": Path(job["out"])}),
                        TrainOptions(**how))
"""
TRANSFORM = Transform(1, 28, 28, 0, (0.5,), (0.5,))
HERE = {**os.environ, "PYTHONPATH": str(Path(featood.__file__).parents[1]), "OMP_NUM_THREADS": "1"}


def train_by_two(tmp_path, jobs):
    """Train networks by two processes, which are started once for all."""
    (tmp_path / "train.py").write_text(SCRIPT)
    (tmp_path / "jobs.json").write_text(json.dumps(jobs))
    command = [*TWO[:-2], tmp_path / "train.py", tmp_path / "jobs.json"]
    subprocess.run(command, check=True, env=HERE, capture_output=True)


def train_by_one(_, jobs):
    """Train networks by this process."""
    for job in jobs:
        job = dict(job)
        how = TrainOptions(**job.pop("how"))
        train_extractor(
            TrainPlan(**{**job, "architecture": Architecture("lenet"), "out": Path(job["out"])}), how
        )


@pytest.mark.parametrize(
    ("launch", "train"),
    [(ONE, train_by_one), pytest.param(TWO, train_by_two, marks=DISTRIBUTED)],
    ids=["one", "two"],
)
def test_a_killed_training_ends_as_an_uninterrupted_one(tmp_path, launch, train):
    command = [*launch, *words(tmp_path / "killed", "--epochs", "10")]
    process = subprocess.Popen(command, env=HERE, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    record = tmp_path / "killed.training" / "checkpoint.json"
    while not record.exists() or json.loads(record.read_text())["step"] < 8:
        time.sleep(0.01)
        assert process.poll() is None
    subprocess.run(["pkill", "-KILL", "-P", str(process.pid)], check=False)  # the processes of torchrun
    process.kill()
    process.wait()
    assert not is_extractor(tmp_path / "killed")
    job = {"model": "cross-entropy", "dataset": "digits", "limit": 300, "image_size": 28}
    how = {"epochs": 10, "batch_size": 64, "lr": 0.05}
    train(tmp_path, [{**job, "how": how, "out": str(tmp_path / name)} for name in ("killed", "whole")])
    same(tmp_path / "whole", tmp_path / "killed")


def shared_jobs():
    """Trainings whose losses are means over rows, and those that look at the whole batch."""
    plain = {"dataset": "digits", "limit": 300, "image_size": 28}
    how = {"batch_size": 64, "lr": 0.05, "validation": 0, "precision": "float64"}
    yield "plain", {**plain, "model": "cross-entropy", "how": {**how, "epochs": 13}}
    balanced = {**how, "epochs": 2, "frozen_epochs": 1, "batch_classes": 8}
    yield "balanced", {**plain, "model": "cross-entropy", "how": balanced}
    options = {
        "vos": {"queue": 4, "draws": 50},
        "npos": {"queue": 8, "samples": 20, "neighbor": 4, "boundary": 6, "kept": 5},
    }
    how |= {"epochs": 2, "batch_size": 32, "outlier_batch": 32, "lr": 0.01, "augment": ["crop:1"]}
    for name in ("cider", "mcd", "npos", "scone", "vos"):
        more = {"pretraining": 0.3} if name in ("mcd", "npos", "scone", "vos") else {}
        yield name, {
            "model": name, "dataset": "digits:0-6", "image_size": 28, "limit": 96, "how": how,
            "options": options.get(name, {}) | more, "outliers": "digits:7-9" if name in ("mcd", "scone") else "",
        }  # fmt: skip


def chains_job(out):
    """One update of energies with 40 chains, of which each of two processes moves 16 at most."""
    how = {"epochs": 1, "batch_size": 32, "optimizer": "adam", "lr": 1e-3, "validation": 0}
    return {
        "model": "jem", "dataset": "digits", "limit": 32, "image_size": 28, "how": how, "out": str(out),
        "options": {"sgld_steps": 2, "buffer_size": 40, "restart": 0.0},
    }  # fmt: skip


@DISTRIBUTED
def test_two_processes_train_what_one_does(tmp_path):
    chains = chains_job(tmp_path / "chains")
    for name, train, more in (("one", train_by_one, []), ("two", train_by_two, [chains])):
        jobs = [{**job, "out": str(tmp_path / name / title)} for title, job in shared_jobs()]
        train(tmp_path, [*jobs, *more])
    assert len(losses(tmp_path / "one" / "plain")) >= 50
    for model in os.listdir(tmp_path / "one"):
        one, two = tmp_path / "one" / model, tmp_path / "two" / model
        np.testing.assert_allclose(losses(one), losses(two), rtol=1e-9, err_msg=model)
        tensors = load_file(two / "last.safetensors")
        for name, value in load_file(one / "last.safetensors").items():
            torch.testing.assert_close(tensors[name], value, rtol=0, atol=1e-8, msg=f"{model} {name}")
    moved = load_file(tmp_path / "chains" / "last.safetensors")["parts.chains.samples"]
    model = create_model(chains["model"], chains["options"])
    first = trainable_net(model, Architecture("lenet").make, 10, TRANSFORM).parts["chains"].samples
    changed = (moved != first).flatten(1).any(1)
    assert int(changed.sum()) > 16, "one process moves 16 chains at most"


def test_an_odd_batch_cannot_be_shared(monkeypatch):
    from featood.extractors.trainer.distributed import Processes

    assert Processes(1, 2).share(64, "a batch") == 32
    with pytest.raises(UsageError, match="a batch of 65 cannot be divided among 2 processes"):
        Processes(1, 2).share(65, "a batch")


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
