"""Short runs of benchmarks/faults.py, power.py and kills.py."""

import os

import pytest

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="follows open files through /proc")


def chosen(script, name):
    return next(command for command in script("commands").COMMANDS if command.name == name)


@pytest.fixture(scope="module")
def watchers():
    """Audit hooks cannot be removed from a process, so there is one of each."""
    return {}


@pytest.mark.parametrize(
    "name",
    [
        "import train",
        "import --append",
        "blocks hdf5 --overwrite",
        "fit knn",
        "cache export npy",
        "cache gc",
        "cache verify --drop",
    ],
)
def test_a_file_operation_that_fails_does_no_harm(script, watchers, tmp_path, name):
    faults = script("faults")
    watcher = watchers.setdefault("faults", faults.Faults())
    inputs = script("commands").make_inputs(tmp_path / "inputs")
    tried, wrong = faults.try_command(chosen(script, name), inputs, tmp_path / "work", watcher, share=0.02)
    assert tried and not wrong, wrong


@pytest.mark.parametrize(
    "name", ["import train", "import --append", "blocks zarr --overwrite", "cache export npy"]
)
def test_a_power_cut_does_no_harm(script, watchers, tmp_path, name):
    power = script("power")
    watcher = watchers.setdefault("power", power.Recorder())
    inputs = script("commands").make_inputs(tmp_path / "inputs")
    tried, wrong = power.try_command(chosen(script, name), inputs, tmp_path / "work", watcher, share=0.015)
    assert tried and not wrong, wrong


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("name", ["blocks zarr --overwrite", "cache gc"])
def test_a_kill_does_no_harm(script, tmp_path, name):
    kills = script("kills")
    inputs = script("commands").make_inputs(tmp_path / "inputs")
    done, wrong = kills.kill_command(chosen(script, name), inputs, tmp_path / "work", 6)
    assert done and not wrong, wrong


def test_the_model_of_the_disk_loses_what_was_not_synced(script, tmp_path):
    """The harness must detect faults: a rename before syncing the content leaves an empty file."""
    import random

    power = script("power")
    root = tmp_path / "root"
    root.mkdir()
    seen = set()
    recorder, rng, number = power.Recorder(), random.Random(0), iter(range(10000))

    def cut(disk):
        for steps, loss in power.states(disk, rng, 2):
            left = tmp_path / f"state-{next(number)}"
            disk.restore(left, steps, loss, rng)
            seen.add((left / "name").read_bytes() if (left / "name").exists() else None)

    with recorder.recording(root, cut):
        with open(root / "scratch", "xb") as file:
            file.write(b"content")
        os.replace(root / "scratch", root / "name")
        os.rename(root / "name", root / "other")
    assert {None, b"", b"content"} <= seen
