"""Seconds and memory of fitting and scoring heads, beside their floors and other libraries in the same run."""

from __future__ import annotations

__all__ = ["HEADS", "Measuring", "measure_head"]

import contextlib
import dataclasses
import warnings
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any

from featood.cache.feature_set import FeatureSet
from featood.heads import create_head, head_class
from featood.speed.floors import FLOORS, Operations
from featood.speed.peers import Score, peers_of
from featood.speed.pytorch_ood import PEERS
from featood.speed.synthetic import Size, clustered
from featood.speed.timing import in_process, peak_bytes, reset_peak, seconds

HEADS = (
    "msp", "max-logit", "energy", "gen", "kl-matching", "openmax", "react", "ash-s", "mahalanobis",
    "relative-mahalanobis", "gmm", "knn", "vim", "residual", "neco", "nnguide", "she", "fdbd", "nci",
)  # fmt: skip
"""Heads that are measured by default."""
OURS = "featood"


@dataclasses.dataclass(frozen=True)
class Measuring:
    """How to measure."""

    threads: int = 0
    """Threads of PyTorch; 0 leaves its own choice."""
    repeat: int = 3
    """Number of runs, of which the fastest counts."""
    cap: float = 60.0
    """Maximum seconds of one fit, or one scoring."""
    peers: bool = False
    """Whether to measure other libraries too."""


def measure_head(name: str, size: Size, how: Measuring, operations: Operations) -> list[dict[str, Any]]:
    """Measure a head on synthetic features, each library in a process of its own.

    Parameters
    ----------
    name : str
        Name of the head.
    size : Size
        Sizes of the features.
    how : Measuring
        Threads, repetitions, the cap and whether to measure other libraries.
    operations : Operations
        Times of the operations of the floors.

    Returns
    -------
    list of dict
        One row: ``fit`` and ``score`` in seconds, their ratios to the floors, ``peak`` in MB beyond the features, and
        ``peers`` with the same of each library, and its seconds divided by ours. Figures that there are none of are
        None; ``note`` says why.
    """
    found = in_process(_work, name, OURS, size, how, cap=how.cap)
    notes = [found["error"]] if "error" in found else []
    row: dict[str, Any] = {"head": name, **size._asdict()}
    floor = FLOORS.get(name)
    for what in ("fit", "score"):
        least = getattr(floor, what)(size, operations) if floor and getattr(floor, what) else None
        taken = found.get(what)
        row |= {what: taken, f"{what} floor": least}
        row[f"{what}/floor"] = taken / least if taken and least else None
    row |= {"peak": found.get("peak"), "peers": {}}
    for library in peers_of(name) if how.peers else ():
        theirs = in_process(_work, name, library, size, how, cap=how.cap)
        notes += [f"{library}: {theirs['error']}"] if "error" in theirs else []
        row["peers"][library] = {what: theirs.get(what) for what in ("fit", "score", "peak")}
        row["peers"][library] |= {
            f"{what}/ours": _ratio(theirs, found, what, how.cap) for what in ("fit", "score")
        }
    return [row | {"note": "; ".join(notes)}]


def _ratio(theirs: Mapping[str, Any], ours: Mapping[str, Any], what: str, cap: float) -> float | str | None:
    if not ours.get(what):
        return None
    if theirs.get(what):
        return float(theirs[what] / ours[what])
    capped = str(theirs.get("error", "")).startswith("over") and (what == "score" or "fit" not in theirs)
    return f"> {cap / ours[what]:.0f}" if capped else None


def _work(pipe: Connection, name: str, library: str, size: Size, how: Measuring) -> None:
    """Fit and score, and send each time as soon as it is measured."""
    import torch

    if how.threads:
        torch.set_num_threads(how.threads)
    warnings.simplefilter("ignore")
    fit = _ours(name) if library == OURS else peers_of(name)[library]
    rows, features, classes, test_rows = size
    train = clustered(rows, features, classes, seed=0)
    test = clustered(test_rows, features, classes, seed=1)
    few = clustered(20 * classes + 2 * features, features, classes, seed=2)
    with contextlib.suppress(Exception):  # some heads need more rows
        fit(few)(few.rows(slice(0, 64)))
    del few
    before = reset_peak()
    pipe.send(("ready", True))
    took, score = seconds(lambda: fit(train), how.repeat)
    pipe.send(("fit", took if head_class(name).card.learns else None))
    took, _ = seconds(lambda: score(test), how.repeat)
    pipe.send(("score", took))
    pipe.send(("peak", (peak_bytes() - before) / 1e6))


def _ours(name: str) -> Callable[[FeatureSet], Score]:
    peer = next((peer for peer in PEERS if peer.head == name), None)

    def fit(train: FeatureSet) -> Score:
        # with the options that make it comparable
        head = (peer.create(train) if peer else create_head(name)).fit(train)
        head.score(train.rows(slice(0, 1)))  # an index is built at the first score
        return head.score

    return fit
