"""Grid search over a head's options, on rows that no test will see."""

from __future__ import annotations

__all__ = ["Tuning", "tune_head"]

import dataclasses
import itertools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from featood.cache import FeatureSet
from featood.errors import DataError, FeatoodError, UsageError
from featood.heads import create_head
from featood.heads.base.fit import FitContext
from featood.heads.base.head import Head
from featood.metrics import METRICS, detection_metrics
from featood.pipeline.extraction import extract_like
from featood.pipeline.fitting import find_heads, fit_head
from featood.pipeline.holdout import hold_out
from featood.pipeline.leakage import dataset_name, inputs_digest, overlap
from featood.pipeline.preset_choice import choose_preset
from featood.pipeline.selection import Selection

HIGHER_IS_BETTER = ("auroc", "aupr_in", "aupr_out")
HELD_OUT = 0.1
"""Share of the training rows to validate on where there is no validation split."""


@dataclasses.dataclass(frozen=True)
class Tuning:
    """The points of a grid and the head that the best of them gave."""

    rows: list[dict[str, Any]]
    """One a point, in the grid's order: ``options``, the metrics, ``fit_s``; or ``options`` and ``error``."""
    best: dict[str, Any]
    """The row of the best point."""
    head: Head
    """That head, fitted on all training rows."""
    folder: Path
    """Where it was saved."""


def tune_head(
    selection: Selection,
    name: str,
    grid: Mapping[str, Sequence[Any]],
    validation_ood: str,
    metric: str = "auroc",
    test_ood: Sequence[str] = (),
    preset: str | None = None,
    split: str = "",
    out: str | Path | None = None,
    seed: int = 0,
    data_dir: str | None = None,
    progress: Callable[..., None] | None = None,
    say: Callable[[str], None] = lambda text: None,
    overwrite: bool = False,
) -> Tuning:
    """Choose a head's options by how well it tells validation rows from a validation OOD set, then fit and save it.

    Every point is fitted on training rows alone. The in-distribution rows to validate on are the ``val`` split;
    where there is none, or it stands in for a missing test split, they are a tenth of the training rows, which
    the points are then not fitted on. The test split is never read. The best point is fitted on all training
    rows. The artefact keeps the name of the validation OOD set, so that nobody tests the head on it.

    Parameters
    ----------
    selection : Selection
        The in-distribution extraction.
    name : str
        Name of the head.
    grid : mapping of str to sequence
        Values by option; all combinations are tried, and among equals the first wins.
    validation_ood : str
        Out-of-distribution set to validate on; extracted where it is not in the cache.
    metric : str
        A key of :data:`featood.metrics.METRICS`.
    test_ood : sequence of str
        The sets that results will be reported on.
    preset, split, out, overwrite
        See :func:`featood.pipeline.fitting.fit_head`.
    seed : int
        Seed of the draw of the rows held out.
    data_dir : str, optional
        Where the images are.
    progress : callable, optional
        Called as ``progress(what, done, total)``.
    say : callable
        Takes one line about each choice made.

    Returns
    -------
    Tuning

    Raises
    ------
    UsageError
        When the validation set overlaps with a set to test on (named now, or when another head was tuned), or
        the grid is empty or holds an option or value that the head does not take.
    DataError
        When no point could be fitted and scored, or the data are missing.
    """
    if metric not in METRICS:
        raise UsageError(f"there is no metric '{metric}'; there are {', '.join(METRICS)}")
    train = selection.open(selection.train_split(split))
    settings = preset or choose_preset(name, train)[0]
    points = _points(grid)
    for options in points:
        create_head(name, settings, **options)  # a wrong option ends it here, before any work
    tested = [*test_ood, *_recorded_tests(selection)]
    _refuse_overlap(validation_ood, dataset_name(train), tested)
    outliers = extract_like(selection.cache, train, validation_ood, data_dir, progress, say)
    _refuse_overlap(dataset_name(outliers), dataset_name(train), tested)
    kept, validation, where = _validation(selection, train, seed)
    say(f"tuning {name} on {where} against {outliers.name}: {len(points)} points")
    rows = []
    for position, options in enumerate(points):
        if progress is not None:
            progress(f"tuning {name}", position, len(points))
        head = create_head(name, settings, **options)
        rows.append({"options": options, **_try(head, kept, validation, outliers, progress)})
    best = _best(rows, metric)
    tuned = {
        "on": dataset_name(outliers),
        "inputs": inputs_digest(outliers),
        "validated_on": where,
        "test_ood": list(test_ood),
        "metric": metric,
        "value": best[metric],
        "grid": {option: list(values) for option, values in grid.items()},
    }
    head, folder = fit_head(
        selection, name, best["options"], preset, split, out, _training(progress, name), say, tuned,
        overwrite=overwrite,
    )  # fmt: skip
    return Tuning(rows, best, head, folder)


def _points(grid: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    for option, values in grid.items():
        if not values:
            raise UsageError(f"the grid has no value for {option}")
    if not grid:
        raise UsageError("the grid is empty; name options and values, such as k=10,50,200")
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def _refuse_overlap(validation: str, in_distribution: str, tested: Sequence[str]) -> None:
    if overlap(validation, in_distribution):
        raise UsageError(f"{validation} is the in-distribution set; name another for --validation-ood")
    for name in tested:
        if overlap(validation, name):
            raise UsageError(
                f"{name} is a set to test on, here or of a head tuned earlier; choose the options on another"
            )


def _recorded_tests(selection: Selection) -> list[str]:
    """Return the sets that were named as those to test on when heads of this selection were tuned."""
    names: list[str] = []
    for path in find_heads(selection).values():
        try:  # the tensors may be large; a damaged head is reported where it is used
            meta = json.loads((path / "head.json").read_bytes())["meta"]
            names += meta.get("tuned", {}).get("test_ood", ())
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
    return names


def _validation(selection: Selection, train: FeatureSet, seed: int) -> tuple[FeatureSet, FeatureSet, str]:
    """Return the rows to fit on, those to validate on, and where the latter come from."""
    own = train.name.split("/")[-1]
    tested = "test" if "test" in selection.entries else "val"
    if own == tested:
        raise UsageError(f"{train.name} is what featood score reports on; tune on another split")
    if "val" in selection.entries and "val" not in (own, tested):
        validation = selection.open("val")
        return train, validation, validation.name
    kept, held = hold_out(train, HELD_OUT, seed)
    return kept, held, f"{len(held)} rows held out of {train.name}"


def _try(
    head: Head,
    train: FeatureSet,
    validation: FeatureSet,
    outliers: FeatureSet,
    progress: Callable[..., None] | None,
) -> dict[str, Any]:
    """Fit one point and return its metrics, or the error it ended with."""
    start = time.perf_counter()
    try:
        if head.learns:
            head.fit(train, context=FitContext(_training(progress, head.name)))
        seconds = time.perf_counter() - start
        scores = [np.asarray(head.score(rows)) for rows in (validation, outliers)]
        return {**detection_metrics(*scores), "fit_s": round(seconds, 3)}
    except FeatoodError as error:
        return {"error": str(error)}


def _best(rows: Sequence[dict[str, Any]], metric: str) -> dict[str, Any]:
    found = [row for row in rows if "error" not in row]
    if not found:
        raise DataError(f"no point of the grid could be used; the first: {rows[0]['error']}")
    sign = 1 if metric in HIGHER_IS_BETTER else -1
    return max(found, key=lambda row: sign * row[metric])


def _training(progress: Callable[..., None] | None, name: str) -> Callable[..., None] | None:
    if progress is None:
        return None
    return lambda step, total, **figures: progress(f"training {name}", step, total, **figures)
