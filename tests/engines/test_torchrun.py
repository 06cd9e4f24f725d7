"""The engine torchrun: any number of processes computes every row once, with the results of one."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import engine_jobs
import numpy as np
import pytest
import torch
from engine_jobs import KEY, ROWS, extracted, fitted, store_rows
from safetensors.torch import load_file

import featood
from featood.cache import FeatureCache
from featood.cache.reader import open_blocks
from featood.engines import open_engine
from featood.errors import UsageError

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="torch has no torch.distributed")


def start(world, folder, *words, slurm=False):
    """Start a job in several processes, as torchrun or srun does; return the processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    paths = [str(Path(featood.__file__).parents[1]), str(Path(engine_jobs.__file__).parent)]
    shared = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    processes = []
    for rank in range(world):
        names = ("SLURM_PROCID", "SLURM_NTASKS") if slurm else ("RANK", "WORLD_SIZE")
        own = dict(zip(names, (str(rank), str(world)), strict=True))
        own |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        command = [sys.executable, engine_jobs.__file__, str(folder), *words]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        processes.append(subprocess.Popen(command, env={**shared, **own}, **pipes))
    return processes


def ended(processes):
    """Return exit code, output and errors of each process."""
    return [(process, *process.communicate(timeout=300)) for process in processes]


def same_files(one, other):
    """Assert that two sets have the same bytes, in the same number of commit records."""
    for folder in (one, other):
        assert FeatureCache(folder).verify(KEY) == []
    mine, theirs = (open_blocks(folder / KEY)[1] for folder in (one, other))
    assert len(mine.commits) == len(theirs.commits) == 10
    for column in mine.store.columns:
        for block in range(10):
            assert mine(column, block).tobytes() == theirs(column, block).tobytes(), (column, block)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The results of one process without an engine."""
    folder = tmp_path_factory.mktemp("alone")
    extracted(folder)
    store_rows(folder)
    return folder, fitted(folder)


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """Three processes extract a set, and lose one in the middle of another; then two continue the latter."""
    folder = tmp_path_factory.mktemp("together")
    store_rows(folder)
    three = ended(start(3, folder, "whole", "lost"))
    there = len(list((folder / "lost" / KEY / "commits").glob("*.json")))
    return folder, three, there, ended(start(2, folder, "lost", slurm=True))


def test_three_processes_compute_every_row_once(alone, together):
    folder, three, *_ = together
    reports, resumed = map(json.loads, three[0][1].splitlines())
    assert reports[0] == resumed == 0 and reports[-1] == ROWS and reports == sorted(reports)
    same_files(alone[0], folder / "whole")


def test_a_lost_process_ends_the_others_and_two_processes_continue(alone, together):
    folder, three, there, two = together
    codes = [process.returncode for process, *_ in three]
    assert codes[1] == 9 and 0 not in codes, three
    assert all("start the same command again, which resumes" in three[rank][2] for rank in (0, 2))
    assert 0 < there < 10
    assert [process.returncode for process, *_ in two] == [0, 0], two
    assert json.loads(two[0][1].splitlines()[1]) in (32 * there, 32 * there - 23)  # the last block has 9 rows
    same_files(alone[0], folder / "lost")


def test_fits_and_scores_are_those_of_one_process_to_the_last_bit(alone, together):
    for world in (2, 3):
        found = load_file(together[0] / f"{world}.safetensors")
        assert found.keys() == alone[1].keys()
        for name, values in alone[1].items():
            assert found[name].numpy().tobytes() == values.numpy().tobytes(), name
    assert b"1 rows hold NaN" in bytes(alone[1]["cosine.notes"].tolist())


def test_one_process_needs_no_others(tmp_path, alone, monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    with open_engine("torchrun") as engine:
        extracted(tmp_path, engine)
    same_files(alone[0], tmp_path)


def test_a_process_that_nobody_started_is_refused(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "SLURM_PROCID", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UsageError, match="torchrun --nproc-per-node 2"):
        open_engine("torchrun")


def test_scores_are_those_of_numpy(alone):
    """The results that all others are compared with, by an independent formula."""
    data = FeatureCache(alone[0])["rows/rows/train"]
    rows, labels = data.features["avg"][:].astype(float), data.labels[:]
    kept = np.isfinite(rows).all(1) & (labels >= 0)
    means = np.stack([rows[kept & (labels == one)].mean(0) for one in range(4)])
    scatter = np.cov((rows - means[labels])[kept].T, bias=True)
    away = rows[kept][:, None] - means
    expected = np.einsum("ncd,de,nce->nc", away, np.linalg.inv(scatter), away).min(1)
    np.testing.assert_allclose(alone[1]["mahalanobis.score"].numpy()[kept], expected, rtol=1e-9)
