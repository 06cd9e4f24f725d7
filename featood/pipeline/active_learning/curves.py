"""The files of an experiment: accuracies and ambiguity of all its runs, and their means."""

from __future__ import annotations

__all__ = ["SUMMARY", "Curve", "summarise", "write_curves"]

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from featood.files import atomic_write
from featood.metrics import mean_and_error
from featood.names import safe_text
from featood.pipeline.active_learning.rounds import Round

SUMMARY = "summary.json"


class Curve(NamedTuple):
    """Mean test accuracy of an acquisition by the number of labels."""

    labels: list[int]
    accuracy: list[float]
    standard_error: list[float | None]
    """None for a single run."""
    runs: list[int]
    """Number of runs that have got as far."""
    notes: list[Mapping[str, list[float]]]
    """Notes of the rounds, such as the ridge, by name: one value for each run."""


def summarise(runs: list[list[Round]]) -> Curve:
    """Average the runs of one acquisition, for each number of labels over the runs that have got as far."""
    by_labels: dict[int, list[Round]] = {}
    for rounds in runs:
        for found in rounds:
            by_labels.setdefault(len(found.labelled), []).append(found)
    points = [(labels, by_labels[labels]) for labels in sorted(by_labels)]
    means = [mean_and_error([found.accuracy for found in rounds]) for _, rounds in points]
    return Curve(
        [labels for labels, _ in points],
        [mean for mean, _ in means],
        [None if math.isnan(error) else error for _, error in means],
        [len(rounds) for _, rounds in points],
        [_notes(rounds) for _, rounds in points],
    )


def _notes(rounds: list[Round]) -> dict[str, list[float]]:
    names = dict.fromkeys(name for found in rounds for name in found.notes)
    return {name: [found.notes.get(name, 0.0) for found in rounds] for name in names}


def write_curves(
    folder: Path,
    found: Mapping[str, list[list[Round]]],
    facts: Mapping[str, Any],
    entropies: Mapping[int, float] | None = None,
    threshold: float = 0.0,
) -> dict[str, Any]:
    """Write the accuracies of every run in percent, how ambiguous its labelled images are, and a summary.

    ``test_accs_*.json`` has a list of accuracies for each run, ``ambiguous_acquired_*.json`` the shares of the labelled
    images that are ambiguous after each acquisition, and ``ambiguous_entropies_*.json`` how ambiguous each image is.

    Parameters
    ----------
    folder : Path
        Where to write.
    found : mapping
        For each acquisition, the rounds of each run.
    facts : mapping
        ``architecture`` and ``pool``, which are part of the file names, and whatever the summary shall state.
    entropies : mapping, optional
        How ambiguous an image is, in nats, by its row in the pool; without it, the files about ambiguity are not
        written.
    threshold : float
        Entropy above which an image is ambiguous.

    Returns
    -------
    dict
        The summary, which ``summary.json`` contains.
    """
    for label, runs in found.items():
        name = safe_text(f"{facts['architecture']}_{label}_{facts['pool']}", 180)
        _write(
            folder / f"test_accs_{name}.json",
            _by_number([[100 * one.accuracy for one in run] for run in runs]),
        )
        if entropies is None:
            continue
        after = [[[entropies[row] for row in one.labelled] for one in run[1:]] for run in runs]
        shares = [[float(np.mean(np.array(values) > threshold)) for values in run] for run in after]
        _write(folder / f"ambiguous_acquired_{name}.json", _by_number(shares))
        _write(folder / f"ambiguous_entropies_{name}.json", _by_number([_by_number(run) for run in after]))
    summary = {**facts, "acquisitions": {label: summarise(runs)._asdict() for label, runs in found.items()}}
    _write(folder / SUMMARY, summary)
    return summary


def _by_number(values: list[Any]) -> dict[str, Any]:
    return {str(number): value for number, value in enumerate(values)}


def _write(path: Path, value: Any) -> None:
    atomic_write(path, (json.dumps(value, indent=1) + "\n").encode())
