"""Training a network for every point of a grid of options."""

from __future__ import annotations

__all__ = ["train_swept"]

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from featood.errors import UsageError
from featood.extractors.models import create_model
from featood.extractors.trainer import TrainOptions
from featood.pipeline.repeated_training import Repetitions, train_repeated
from featood.pipeline.train_plan import TrainPlan
from featood.pipeline.variant_labels import variant_label
from featood.reporter import SILENT, Reporter


def train_swept(
    plan: TrainPlan,
    options: TrainOptions,
    grid: Mapping[str, Sequence[Any]],
    repeat: int = 1,
    *,
    reporter: Reporter = SILENT,
) -> dict[str, Repetitions]:
    """Train a network for every combination of the values of options, with several seeds each.

    Parameters
    ----------
    plan, options
        What to train, and how, besides the grid.
    grid : mapping of str to sequence
        Values by option of the model or of :class:`TrainOptions`.
    repeat : int
        Number of seeds, from ``options.seed`` on.
    reporter : Reporter
        Takes a line about each choice, and the progress.

    Returns
    -------
    dict of str to Repetitions
        By label, such as ``jem@lr=0.001``, which is also the name of the folder in ``plan.out`` that has the folders
        ``seed-K``. None of the networks is selected.

    Raises
    ------
    UsageError
        If the grid has seeds, or a value is invalid; raised before the first training.
    """
    if "seed" in grid:
        raise UsageError("a grid has no seeds; give the number of seeds by repeat")
    how = {field.name for field in dataclasses.fields(TrainOptions)}
    points = {}
    for values in itertools.product(*grid.values()):
        point = dict(zip(grid, values, strict=True))
        label = variant_label(plan.model, point)
        model = {**plan.options, **{name: value for name, value in point.items() if name not in how}}
        create_model(plan.model, model)
        points[label] = (
            dataclasses.replace(plan, options=model, out=plan.out / label),
            dataclasses.replace(options, **{name: point[name] for name in point if name in how}),
        )
    found = {}
    for number, (label, (own, training)) in enumerate(points.items(), 1):
        reporter.line(f"{number} of {len(points)}: {label}")
        found[label] = train_repeated(own, training, repeat, reporter=reporter)
    return found
