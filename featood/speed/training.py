"""Speed of training heads, beside the bare forward pass, backward pass and update of the same network."""

from __future__ import annotations

__all__ = ["TRAINED", "measure_training"]

import itertools
import time
import warnings
from statistics import median
from typing import Any

import numpy as np
import torch

from featood.heads import create_head
from featood.heads.base.fit import FitContext
from featood.heads.base.trained_head import TrainedHead
from featood.speed.synthetic import clustered
from featood.speed.timing import in_turn

TRAINED = ("mlp", "natpn", "postnet", "open-set", "autoencoder", "nce", "ssm", "cd")
"""Heads that are measured: one or two of each family, of those whose updates take less than a second."""
BATCH = 512
STEPS = 20
"""Number of updates of a round, of which the median counts."""


def measure_training(name: str, features: int, classes: int, repeat: int) -> list[dict[str, Any]]:
    """Measure an update of a head that trains a network, in batches of 512 rows.

    The floor is an update of the same network on rows that are already a batch: computing the loss, its gradient, and
    the step of the optimiser. What the fit adds to it are the selection of rows, the schedule, checks and records.

    Parameters
    ----------
    name : str
        Name of a trained head.
    features, classes : int
        Size of the features, and number of classes.
    repeat : int
        Number of rounds, in each of which both are measured.

    Returns
    -------
    list of dict
        One row: milliseconds of an update of the fit and of the floor, their ratio, and the ``overhead``, the share of
        the first that is not part of the second; medians over the rounds.
    """
    train = clustered(BATCH * STEPS, features, classes, seed=0)
    head: Any = create_head(name, epochs=1, batch_size=BATCH, validation=0.0)
    assert isinstance(head, TrainedHead)
    rows, labels = (torch.as_tensor(np.asarray(values)[:BATCH]) for values in (train.feature(), train.labels))
    generator = torch.Generator().manual_seed(0)
    model = head.build(features, classes if "labels" in head.needs else 1, generator)
    head.initialize(model, rows, labels)
    phase = head.phases()[-1]
    optimizer = phase.optimizer(model.train())

    def update() -> None:
        optimizer.zero_grad(set_to_none=True)
        phase.losses(model, rows, labels, generator)["loss"].backward()
        optimizer.step()

    def bare() -> float:
        return _step([_now(update) for _ in range(STEPS + 1)])

    def fit() -> float:
        ends: list[float] = []
        create_head(name, **head.options).fit(
            train, context=FitContext(lambda *_, **__: ends.append(time.perf_counter()))
        )
        return _step(ends[-STEPS:])  # of the last phase

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the features are synthetic
        rounds = in_turn({"fit": fit, "bare": bare}, repeat)
    ratio = median(times["fit"] / times["bare"] for times in rounds)
    row: dict[str, Any] = {"head": name, "features": features, "classes": classes}
    row |= {f"{what} ms": 1e3 * median(times[what] for times in rounds) for what in ("fit", "bare")}
    return [row | {"fit/floor": ratio, "overhead": 1 - 1 / ratio}]


def _now(update: Any) -> float:
    update()
    return time.perf_counter()


def _step(ends: list[float]) -> float:
    return median(end - start for start, end in itertools.pairwise(ends))
