"""Training by one process that is killed, and by two that share each batch."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from test_training import losses, same, words

import featood
from featood.errors import UsageError
from featood.extractors.models import create_model, model_class
from featood.extractors.trainer import Architecture, TrainOptions, is_extractor
from featood.extractors.trainer.networks import trainable_net
from featood.extractors.transform import Transform
from featood.pipeline.train_plan import TrainPlan
from featood.pipeline.training import train_extractor

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


def train_apart(launch, tmp_path, jobs):
    """Train networks by one process or two, which are started once for all, like one that is killed."""
    (tmp_path / "train.py").write_text(SCRIPT)
    (tmp_path / "jobs.json").write_text(json.dumps(jobs))
    command = [*launch[:-2], tmp_path / "train.py", tmp_path / "jobs.json"]
    subprocess.run(command, check=True, env=HERE, capture_output=True)


def train_here(jobs):
    """Train networks by this process."""
    for job in jobs:
        job = dict(job)
        how = TrainOptions(**job.pop("how"))
        train_extractor(
            TrainPlan(**{**job, "architecture": Architecture("lenet"), "out": Path(job["out"])}), how
        )


def killed(launch, folder, model="cross-entropy", **options):
    """Begin a training, kill it, and return the jobs that continue it and that train the same without a break."""
    how = {**model_class(model).training, "epochs": 10, "batch_size": 64, "lr": 0.05}
    given = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    command = [*launch, *words(folder / "killed", "--epochs", "10", *given, model=model)]
    process = subprocess.Popen(command, env=HERE, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    record = folder / "killed.training" / "checkpoint.json"
    while not record.exists() or json.loads(record.read_text())["step"] < 8:
        time.sleep(0.01)
        assert process.poll() is None
    subprocess.run(["pkill", "-KILL", "-P", str(process.pid)], check=False)  # the processes of torchrun
    process.kill()
    process.wait()
    assert not is_extractor(folder / "killed")
    job = {"model": model, "dataset": "digits", "limit": 300, "image_size": 28}
    job |= {"options": options, "how": how}
    return [{**job, "out": str(folder / name)} for name in ("killed", "whole")]


def test_a_killed_training_with_chains_ends_as_an_uninterrupted_one(tmp_path):
    # not by the process of the tests: what others leave in it, such as a number of threads, changes last bits
    train_apart(ONE, tmp_path, killed(ONE, tmp_path, "jem", sgld_steps=2, buffer_size=100))
    same(tmp_path / "whole", tmp_path / "killed")
    assert "parts.chains.samples" in load_file(tmp_path / "killed" / "last.safetensors")


def shared_jobs():
    """Trainings whose losses are means over rows, and those that look at the whole batch."""
    plain = {"dataset": "digits", "limit": 300, "image_size": 28}
    how = {"batch_size": 64, "lr": 0.05, "validation": 0, "precision": "float64"}
    yield "plain", {**plain, "model": "cross-entropy", "how": {**how, "epochs": 13}}
    balanced = {**how, "epochs": 2, "frozen_epochs": 1, "batch_classes": 8}
    yield "balanced", {**plain, "model": "cross-entropy", "how": balanced}
    chosen = {**how, "epochs": 3, "batch_size": 40, "batch_classes": 5, "lr": 0.005}
    options = {"latent": 4, "margins_epoch": 1}
    yield "vmdls", {**plain, "model": "vmdls", "options": options, "how": chosen}
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


@pytest.fixture(scope="module")
def by_two(tmp_path_factory):
    """Trainings by two processes, which are started once for all but the one that is killed."""
    folder = tmp_path_factory.mktemp("two")
    jobs = [{**job, "out": str(folder / title)} for title, job in shared_jobs()]
    train_apart(TWO, folder, [*killed(TWO, folder), *jobs, chains_job(folder / "chains")])
    return folder


@DISTRIBUTED
def test_a_killed_training_by_two_ends_as_an_uninterrupted_one(by_two):
    same(by_two / "whole", by_two / "killed")


@DISTRIBUTED
def test_two_processes_train_what_one_does(by_two, tmp_path):
    train_here([{**job, "out": str(tmp_path / title)} for title, job in shared_jobs()])
    assert len(losses(tmp_path / "plain")) >= 50
    for model in os.listdir(tmp_path):
        one, two = tmp_path / model, by_two / model
        np.testing.assert_allclose(losses(one), losses(two), rtol=1e-9, err_msg=model)
        tensors = load_file(two / "last.safetensors")
        for name, value in load_file(one / "last.safetensors").items():
            torch.testing.assert_close(tensors[name], value, rtol=0, atol=1e-8, msg=f"{model} {name}")


@DISTRIBUTED
def test_two_processes_share_their_chains(by_two):
    chains = chains_job(by_two / "chains")
    moved = load_file(by_two / "chains" / "last.safetensors")["parts.chains.samples"]
    model = create_model(chains["model"], chains["options"])
    first = trainable_net(model, Architecture("lenet").make, 10, TRANSFORM).parts["chains"].samples
    changed = (moved != first).flatten(1).any(1)
    assert int(changed.sum()) > 16, "one process moves 16 chains at most"


def test_an_odd_batch_cannot_be_shared(monkeypatch):
    from featood.extractors.trainer.distributed import Processes

    assert Processes(1, 2).share(64, "a batch") == 32
    with pytest.raises(UsageError, match="a batch of 65 cannot be divided among 2 processes"):
        Processes(1, 2).share(65, "a batch")
