"""All commands that write, on a cache small enough for thousands of runs, and comparison of the states they leave.

Used by `faults.py` (failing file operations), `power.py` (lost writes) and `kills.py` (killed processes), through
`breaking.py`.
"""

from __future__ import annotations

__all__ = ["COMMANDS", "Command", "Outcome", "World", "judge", "observe"]

import contextlib
import dataclasses
import functools
import hashlib
import io
import json
import shutil
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

REFUSED, ABSENT = "refused", "absent"
STORES = ("zarr", "hdf5")
NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 6, 3, stride=2), nn.Linear(6, 3)
    def forward(self, x):
        return self.fc(torch.relu(self.conv(x)).mean((2, 3)))

def make():
    torch.manual_seed(0)
    return Net()
"""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Result of a command."""

    code: int
    text: str
    """Its standard error."""


@dataclasses.dataclass(frozen=True)
class World:
    """Inputs, which no command changes, and the working folder of the commands."""

    inputs: Path
    root: Path

    @property
    def cache(self) -> Path:
        """Folder of the cache."""
        return self.root / "cache"

    def copy(self, root: Path) -> World:
        """Copy the working folder."""
        shutil.copytree(self.root, root, symlinks=True)
        return World(self.inputs, root)

    def run(self, *words: str) -> Outcome:
        """Run a command in this process; ``{i}`` and ``{o}`` are the folders of inputs and outputs."""
        from featood.cli.process import guarded
        from featood.cli.root import root

        places = {"{i}": str(self.inputs), "{o}": str(self.root / "out")}
        line = []
        for word in words:
            for place, path in places.items():
                word = word.replace(place, path)
            line.append(word)
        if "--cache" not in line:
            line += ["--cache", str(self.cache)]
        out, err = io.StringIO(), io.StringIO()
        # commands look for --debug in sys.argv, which has the arguments of the benchmark
        argv, sys.argv = sys.argv, ["featood", *line]
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
                code = guarded(lambda: root(line, prog_name="featood", standalone_mode=False))
        finally:
            sys.argv = argv
        return Outcome(int(code), err.getvalue())


@dataclasses.dataclass(frozen=True)
class Command:
    """A command, and the commands that must precede it."""

    name: str
    line: Callable[[World], Outcome]
    before: tuple[str, ...] = ()
    damage: Callable[[World], None] | None = None
    slow: bool = False
    """Whether file operations are a small part of its time, so that it is tried less often."""


def make_inputs(folder: Path) -> Path:
    """Write the images, arrays and the network used by the commands."""
    rng = np.random.default_rng(0)
    for name, split, rows, brightness in (
        ("toy", "train", 40, 80),
        ("toy", "test", 24, 80),
        ("odd", "test", 20, 170),
    ):
        labels = rng.integers(0, 3, rows)
        noise = rng.integers(0, 60, (rows, 8, 8, 3))
        images = (noise + brightness + 20 * labels[:, None, None, None]).astype(np.uint8)
        (folder / "images" / name).mkdir(parents=True, exist_ok=True)
        np.savez(folder / "images" / name / f"{split}.npz", images=images, labels=labels)
    for split, rows in (("train", 40), ("test", 24), ("ood", 20)):
        np.save(folder / f"{split}-x.npy", rng.normal(split == "ood", 1, (rows, 4)).astype("f4"))
        np.save(folder / f"{split}-y.npy", rng.integers(0, 2, rows))
    (folder / "net.py").write_text(NET)
    return folder


def _line(*words: str) -> Callable[[World], Outcome]:
    return lambda world: world.run(*words)


def _all(*lines: Callable[[World], Outcome]) -> Callable[[World], Outcome]:
    """Run several lines in order until one fails; exit code 4 (verify found damage) is not a failure."""

    def run(world: World) -> Outcome:
        for line in lines:
            outcome = line(world)
            if outcome.code not in (0, 4):
                break
        return outcome

    return run


def _extract(name: str, *more: str) -> Callable[[World], Outcome]:
    how = ("--dataset", "toy", "--data-dir", "{i}/images", "--workers", "0", "--pool", "avg", *more)
    return _line("extract", "--backbone", "python:{i}/net.py:make", "--name", name, *how)


def _import(split: str, *more: str) -> Callable[[World], Outcome]:
    dataset = ("odd", "test") if split == "ood" else ("toy", split)
    where = ("--backbone", "vectors", "--dataset", dataset[0], "--split", dataset[1])
    labels = () if split == "ood" else ("--labels", f"{{i}}/{split}-y.npy")
    return _line("import", *where, "--features", f"{{i}}/{split}-x.npy", *labels, *more)


def _append(*more: str) -> Callable[[World], Outcome]:
    """Add the rows of the test split to the train split."""
    where = ("--backbone", "vectors", "--dataset", "toy", "--split", "train", "--append")
    return _line("import", *where, "--features", "{i}/test-x.npy", "--labels", "{i}/test-y.npy", *more)


def _blocks(store: str, seed: int = 0) -> Callable[[World], Outcome]:
    """Write a set of several blocks, like an extraction of many rows."""

    def run(world: World) -> Outcome:
        from featood.cache import Classifier, ColumnSpec, FeatureCache, Manifest
        from featood.cli.process import guarded

        rng = np.random.default_rng(seed)
        columns = {"avg": rng.normal(size=(40, 3)).astype("f4"), "labels": rng.integers(0, 2, 40)}
        specs = {name: ColumnSpec(values.shape[1:], str(values.dtype)) for name, values in columns.items()}
        manifest = Manifest(
            recipe={"backbone": "blocks", "seed": seed},
            data={"dataset": "toy", "split": "train", "inputs_sha256": ""},
            columns=specs, rows=40, store=store, main="avg", block_rows=16,
        )  # fmt: skip

        def write() -> None:
            linear = Classifier(np.full((2, 3), seed, "f4"), np.zeros(2, "f4"))
            key = f"{store}-blocks/toy/train"
            with FeatureCache(world.cache).writer(key, manifest, linear, overwrite=seed > 0) as writer:
                for block in writer.pending():
                    writer.write(
                        block, {name: values[writer.span(block)] for name, values in columns.items()}
                    )
                writer.finish()

        err = io.StringIO()
        with contextlib.redirect_stderr(err):
            code = guarded(write)
        return Outcome(code, err.getvalue())

    return run


def _flip(world: World) -> None:
    """Flip a bit in the values of the second block of a set."""
    values = np.random.default_rng(0).normal(size=(40, 3)).astype("f4")[16:18].tobytes()
    for path in world.cache.rglob("*"):
        content = bytearray(path.read_bytes() if path.is_file() else b"")
        if values in content:
            content[content.index(values) + 3] ^= 1
            path.write_bytes(content)


def _half_done(world: World) -> None:
    """Simulate killed writers: a set without its last record, and temporary files."""
    from featood.cache.reader import COLUMNS

    folder = world.cache / "zarr-blocks" / "toy" / "train"
    (folder / "commits" / "00002.json").unlink()
    other = world.cache / "hdf5-blocks" / "toy" / "train"
    (other / COLUMNS / "block-00000.h5.0123456789ab.tmp").write_bytes(b"half")


_IMPORTS = ("import train", "import test", "import ood")
_SCORED = ("score", "--dataset", "toy", "--head", "knn", "--ood", "odd")
COMMANDS = (
    Command("extract", _extract("net"), slow=True),
    Command("extract hdf5", _extract("net", "--store", "hdf5"), slow=True),
    Command("extract --overwrite", _extract("net", "--dtype", "float32", "--overwrite"), ("extract",), slow=True),
    Command("extract again", _extract("other"), ("extract",), slow=True),
    Command("import train", _import("train")),
    Command("import test", _import("test")),
    Command("import ood", _import("ood")),
    Command("import hdf5", _import("train", "--store", "hdf5")),
    Command("import --append", _append(), ("import train",)),
    Command("import hdf5 --append", _append("--store", "hdf5"), ("import hdf5",)),
    Command("blocks zarr", _blocks("zarr")),
    Command("blocks hdf5", _blocks("hdf5")),
    Command("blocks zarr --overwrite", _blocks("zarr", 1), ("blocks zarr",)),
    Command("blocks hdf5 --overwrite", _blocks("hdf5", 1), ("blocks hdf5",)),
    Command("fit knn", _line("fit", "knn", "--dataset", "toy", "--k", "3"), _IMPORTS),
    Command("fit nce", _line("fit", "nce", "--dataset", "toy", "--epochs", "1"), _IMPORTS, slow=True),
    Command("tune knn", _line("tune", "knn", "--dataset", "toy", "--grid", "k=1,2", "--validation-ood", "odd"),
            _IMPORTS),
    Command("score --json --csv --scores",
            _line(*_SCORED, "--json", "{o}/r.json", "--csv", "{o}/r.csv", "--scores", "{o}/r.parquet"),
            (*_IMPORTS, "fit knn")),
    Command("score that extracts", _line("score", "--backbone", "net", "--head", "energy", "--ood", "odd", "--code",
                                         "python:{i}/net.py:make", "--json", "{o}/e.json"), ("extract",), slow=True),
    Command("report", _line("report", *_SCORED[1:], "--out", "{o}/r.html"), (*_IMPORTS, "fit knn"), slow=True),
    Command("cache export npy", _line("cache", "export", "vectors/toy/train", "{o}/npy", "--format", "npy"), _IMPORTS),
    Command("cache export zarr", _line("cache", "export", "net/toy/test", "{o}/zarr", "--format", "zarr"),
            ("extract",)),
    Command("cache export hdf5", _line("cache", "export", "zarr-blocks/toy/train", "{o}/hdf5", "--format", "hdf5"),
            ("blocks zarr",)),
    Command("cache join", _line("cache", "join", "both", "net", "other"), ("extract", "extract again"), slow=True),
    Command("cache gc", _line("cache", "gc", "--incomplete", "--older-than", "0"), ("blocks zarr", "blocks hdf5"),
            _half_done),
    Command("cache verify --drop", _line("cache", "verify", "--drop"), ("blocks zarr",),
            _flip),
    Command("redo a dropped block", _all(_line("cache", "verify", "--drop"), _blocks("hdf5")), ("blocks hdf5",),
            _flip),
)  # fmt: skip


def prepare(command: Command, inputs: Path, root: Path) -> World:
    """Run the commands that precede a command, and apply its damage."""
    world = World(inputs, root)
    (root / "out").mkdir(parents=True)
    for name in command.before:
        outcome = next(other for other in COMMANDS if other.name == name).line(world)
        if outcome.code:
            raise RuntimeError(f"{name}: {outcome.text}")
    if command.damage is not None:
        command.damage(world)
    return world


def observe(world: World) -> dict[str, str]:
    """Return for everything readable the digest of its values, or that it is refused."""
    from featood.cache import FeatureCache
    from featood.errors import CacheCorrupt, DataError

    out = world.root / "out"
    caches = [world.cache, out / "zarr", out / "hdf5"]
    readers: dict[Path, Callable[[], str]] = {}
    for root in caches:
        for path in root.glob("*/*/heads/*/"):
            readers[path] = functools.partial(_head, path)
        for path in root.glob("*/*/*/"):
            if path.name != "heads":
                readers[path] = functools.partial(
                    _values, FeatureCache(root), path.relative_to(root).as_posix()
                )
    for path in out.rglob("*"):
        inside = path.relative_to(out).parts
        if path.is_file() and inside[0] not in STORES and not any(part.endswith(".tmp") for part in inside):
            readers[path] = functools.partial(_result, path)
    found = {}
    for path, read in sorted(readers.items()):
        name = path.relative_to(world.root).as_posix()
        try:
            found[name] = read()
        except CacheCorrupt:
            found[name] = REFUSED
        except DataError:  # does not exist
            continue
    return found


def _values(cache: Any, key: str) -> str:
    features = cache[key]
    sha256 = hashlib.sha256(features.fingerprint.encode())
    columns = {**features.features, "logits": features.logits, "labels": features.labels, "ids": features.ids}
    for name, column in columns.items():
        if column is not None:
            values = column[:]
            content = "\0".join(values).encode() if values.dtype == object else values.tobytes()
            sha256.update(name.encode() + str(values.shape).encode() + content)
    for part in features.classifier or ():
        sha256.update(part.tobytes())
    return sha256.hexdigest()


def _head(folder: Path) -> str:
    from featood import load_head

    head = load_head(folder)
    sha256 = hashlib.sha256(json.dumps(head.options, sort_keys=True, default=str).encode())
    for name, tensor in sorted(head.state.items()):
        sha256.update(name.encode() + tensor.numpy().tobytes())
    return sha256.hexdigest()


def _result(path: Path) -> str:
    """Digest of a result, without entries that differ between runs; raises an error if the file is incomplete."""
    if path.suffix == ".html":
        text = path.read_text()
        assert text.rstrip().endswith("</html>"), path
        return "whole"
    if path.suffix == ".json" and path.name != "manifest.json":
        results = json.loads(path.read_text())
        for row in results["rows"]:
            row.pop("fit_s", None), row.pop("score_s", None)
        content = json.dumps(results["rows"], sort_keys=True).encode()
    elif path.suffix == ".csv":
        content = b"\n".join(b",".join(line.split(b",")[:-2]) for line in path.read_bytes().splitlines())
    elif path.suffix == ".npz":
        with np.load(path) as arrays:
            content = b"".join(arrays[name].tobytes() for name in arrays)
    elif path.name == "manifest.json":
        content = json.dumps(json.loads(path.read_text())["columns"]).encode()
    else:
        content = path.read_bytes()
    return hashlib.sha256(content).hexdigest()


def judge(
    found: Mapping[str, str], before: Mapping[str, str], after: Mapping[str, str], done: bool = False
) -> str:
    """Return what is wrong with the state after a command; empty if it is as before, as after, or refused.

    If the command is `done`, the state must be as after.
    """
    for name in {*found, *before, *after}:
        value, old, new = (state.get(name, ABSENT) for state in (found, before, after))
        allowed = [new] if done or old == new else [old, new, REFUSED, ABSENT]
        if value not in allowed:
            return f"{name} is {value[:12]}, allowed {[text[:12] for text in allowed]}"
    return ""
