"""Time and memory of fitting and scoring heads, compared with pytorch-ood on the same machine in the same run.

Every measurement runs in its own process, after a warm-up on a few rows. Memory is the peak of the process minus its
memory before the fit (which includes the features).
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import multiprocessing
import os
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from common import clustered, environment, pytorch_ood, save, seconds, show
from detectors import PEERS, Layer, Peer, fit_peer, score_peer

from featood import FeatureSet
from featood.heads import head_class

HEADS = ("mahalanobis", "relative-mahalanobis", "knn", "vim", "kl-matching", "energy", "gmm")
START = 300.0
"""Maximum seconds for loading libraries and making data."""


def ours(peer: Peer) -> Callable[[FeatureSet], Callable[[FeatureSet], np.ndarray]]:
    """Return a function that fits the head, builds its index, and returns its scoring function."""

    def fit(train: FeatureSet) -> Callable[[FeatureSet], np.ndarray]:
        head = peer.create(train).fit(train)
        head.score(train.rows(slice(0, 1)))  # an index is built at the first score
        return head.score

    return fit


def theirs(peer: Peer) -> Callable[[FeatureSet], Callable[[FeatureSet], np.ndarray]]:
    """Return a function that fits the detector and returns its scoring function."""
    module = pytorch_ood()

    def fit(train: FeatureSet) -> Callable[[FeatureSet], np.ndarray]:
        detector = peer.make(module, Layer(train), None)
        fit_peer(detector, peer.view, train)
        return lambda rows: score_peer(detector, peer.view, rows)

    return fit


def work(pipe: Connection, name: str, library: str, given: argparse.Namespace) -> None:
    """Fit and score, and send each time as soon as it is measured."""
    import torch

    if given.threads:
        torch.set_num_threads(given.threads)
    warnings.simplefilter("ignore")
    peer = next(peer for peer in PEERS if peer.head == name)
    fit = (ours if library == "featood" else theirs)(peer)
    train = clustered(given.rows, given.size, given.classes, seed=0)
    test = clustered(given.test_rows, given.size, given.classes, seed=1)
    few = clustered(20 * given.classes + 2 * given.size, given.size, given.classes, seed=2)
    with contextlib.suppress(Exception):  # some heads need more rows
        fit(few)(few.rows(slice(0, 64)))
    before = reset_peak()
    pipe.send(("ready", 0.0))
    try:
        took, score = seconds(lambda: fit(train), given.repeat)
        pipe.send(("fit", took if head_class(name).card.learns else None))
        took, _ = seconds(lambda: score(test), given.repeat)
        pipe.send(("score", took))
        pipe.send(("peak", (peak_bytes() - before) / 1e6))
    except Exception as error:  # a peer's crash is a result
        pipe.send(("error", f"{type(error).__name__}: {error}".split("\n")[0][:80]))


def measure(name: str, library: str, given: argparse.Namespace) -> dict[str, Any]:
    """Run one measurement in its own process, and stop it if it takes longer than the cap."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(there, name, library, given))
    process.start()
    there.close()
    found: dict[str, Any] = {}
    try:
        while "peak" not in found and "error" not in found:
            if not here.poll(given.cap if "ready" in found else START):
                found["error"] = f"over {given.cap:g} s"
                break
            what, value = here.recv()
            found[what] = value
    except EOFError:
        found["error"] = "killed"
    process.terminate()
    process.join()
    return found


def reset_peak() -> int:
    """Reset the peak memory, if the system supports it, and return the current memory in bytes."""
    gc.collect()
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)  # memory freed by the warm-up would otherwise be reused unseen
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return peak_bytes()
    return _status("VmRSS")


def peak_bytes() -> int:
    """Return the peak memory since the start or the last reset, in bytes."""
    try:
        return _status("VmHWM")
    except OSError:
        import resource

        unit = 1 if os.uname().sysname == "Darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":"))


def row_of(name: str, given: argparse.Namespace) -> dict[str, Any]:
    """Measure one head with both libraries."""
    mine = measure(name, "featood", given)
    peer = measure(name, "pytorch-ood", given) if given.peer else {"error": "not installed"}

    def ratio(what: str) -> str | None:
        if mine.get(what):
            if peer.get(what):
                return f"{peer[what] / mine[what]:.2f}"
            if str(peer.get("error")).startswith("over"):  # a lower bound from the cap
                return f"> {given.cap / mine[what]:.0f}"
        return None

    errors = [f"{who}: {run['error']}" for who, run in (("featood", mine), ("peer", peer)) if "error" in run]
    return {
        "head": name,
        **{f"{what} {unit}": mine.get(what) for what, unit in UNITS.items()},
        **{f"peer {what} {unit}": peer.get(what) for what, unit in UNITS.items()},
        **{f"{what} ratio": ratio(what) for what in ("fit", "score")},
        "note": "; ".join(errors),
    }


UNITS = {"fit": "s", "score": "s", "peak": "MB"}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Time and memory of heads, compared with pytorch-ood.")
    parser.add_argument("--rows", type=int, default=20_000, help="training rows")
    parser.add_argument("--test-rows", type=int, default=10_000, help="rows to score")
    parser.add_argument("--size", type=int, default=512, help="features per row")
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--heads", default=",".join(HEADS), help="comma-separated")
    parser.add_argument("--cap", type=float, default=60.0, help="maximum seconds of one fit or one scoring")
    parser.add_argument("--repeat", type=int, default=3, help="number of runs; the fastest is reported")
    parser.add_argument(
        "--threads", type=int, default=0, help="threads of PyTorch (default: those of PyTorch)"
    )
    parser.add_argument("--json", help="write the table as JSON")
    given = parser.parse_args()
    given.peer = pytorch_ood() is not None
    rows = [row_of(name, given) for name in given.heads.split(",")]
    title = (
        f"Heads on {given.rows} x {given.size} features of {given.classes} classes, scoring {given.test_rows}; "
        "peer: pytorch-ood; ratio: peer's seconds / ours"
    )
    show(title, rows)
    save(given.json, environment("pytorch-ood", "faiss-cpu", "scikit-learn"), heads=rows)


if __name__ == "__main__":
    main()
