"""Grid search over a head's options, on rows that are not used for testing."""

from __future__ import annotations

__all__ = ["TunePlan", "Tuning", "TuningRow", "tune", "tune_head"]

import dataclasses
import itertools
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from featood.cache.feature_set import FeatureSet
from featood.errors import DataError, FeatoodError, UsageError
from featood.heads import create_head
from featood.heads.base.fit import FitContext
from featood.heads.base.head import Head
from featood.metrics import METRICS, best_of, detection_metrics
from featood.objects import Location
from featood.pipeline.derived_sets import validation_rows
from featood.pipeline.fitted_heads import find_heads
from featood.pipeline.fitting import FitPlan, fit_head
from featood.pipeline.leakage import SeenOutliers, dataset_name, overlap
from featood.pipeline.presets import choose_preset
from featood.pipeline.resolve import find_set
from featood.pipeline.selection import Selection
from featood.reporter import SILENT, Reporter

HELD_OUT = 0.1
"""Share of the training rows that are held out for validation if there is no validation split."""


@dataclasses.dataclass(frozen=True)
class TuningRow:
    """One point of a grid."""

    options: Mapping[str, Any]
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Metrics by name; empty if the point failed."""
    fit_s: float | None = None
    """Duration of the fit in seconds."""
    error: str = ""
    """Why the point could not be fitted or scored."""

    def as_json(self) -> dict[str, Any]:
        """Return ``options``, the metrics and ``fit_s``, or ``options`` and ``error``."""
        if self.error:
            return {"options": self.options, "error": self.error}
        return {"options": self.options, **self.metrics, "fit_s": self.fit_s}


@dataclasses.dataclass(frozen=True)
class TunePlan:
    """The sets and the metric by which options are chosen."""

    validation_ood: str
    """Out-of-distribution set to validate on; extracted if it is not in the cache."""
    metric: str = "auroc"
    """A key of :data:`featood.metrics.METRICS`."""
    test_ood: Sequence[str] = ()
    """Out-of-distribution sets on which results will be reported."""
    seed: int = 0
    """Seed of the draw of held-out rows."""


@dataclasses.dataclass(frozen=True)
class Tuning:
    """The points of a grid, and the head with the best options."""

    rows: list[TuningRow]
    """One row per point, in the order of the grid."""
    best: TuningRow
    """The best point."""
    seen: SeenOutliers
    """How it was chosen; also stored in the artefact."""
    head: Head
    """Head with the best options, fitted on all training rows."""
    folder: Location
    """Folder of its artefact."""


def tune(
    heads: Sequence[Head],
    train: FeatureSet,
    validation: FeatureSet,
    outliers: FeatureSet,
    *,
    reporter: Reporter = SILENT,
) -> list[TuningRow]:
    """Fit heads on training rows, and measure how well each separates validation rows from outliers.

    Parameters
    ----------
    heads : sequence of Head
        Unfitted heads with the options to try; they remain unfitted.
    train, validation : FeatureSet
        In-distribution rows to fit on and to validate on.
    outliers : FeatureSet
        Out-of-distribution rows to validate on.
    reporter : Reporter
        Receives the number of completed points, and the progress of trainings.

    Returns
    -------
    list of TuningRow
        One row per head, in order.
    """
    rows = []
    for position, head in enumerate(heads):
        reporter.progress(f"tuning {head.name}", position, len(heads))
        rows.append(_try(head, train, validation, outliers, reporter))
    return rows


def tune_head(
    selection: Selection,
    name: str,
    grid: Mapping[str, Sequence[Any]],
    on: TunePlan,
    plan: FitPlan = FitPlan(),  # noqa: B008  (frozen)
    *,
    reporter: Reporter = SILENT,
) -> Tuning:
    """Choose a head's options by how well it separates validation rows from a validation OOD set; fit and save it.

    The in-distribution validation rows are the ``val`` split. If there is none, or if it is the test split, a tenth
    of the training rows is held out. The test split is never read. The head with the best options is then fitted on
    all training rows. The artefact contains the name of the validation OOD set, and scoring refuses to test the head
    on it.

    Parameters
    ----------
    selection : Selection
        The in-distribution extraction.
    name : str
        Name of the head.
    grid : mapping of str to sequence
        Values by option; all combinations are tried, and the first of several equal ones is chosen.
    on : TunePlan
        The sets and the metric by which to choose.
    plan : FitPlan
        What to fit on, and where to store the head.
    reporter : Reporter
        Receives a line about each choice made, and the progress.

    Raises
    ------
    UsageError
        If the validation set overlaps with a test set (named in `on`, or when another head was tuned), or the grid
        is empty or contains an invalid option or value.
    DataError
        If no point could be fitted and scored, or data are missing.
    """
    if on.metric not in METRICS:
        raise UsageError(f"unknown metric '{on.metric}'; the metrics are {', '.join(METRICS)}")
    train = selection.open(selection.train_split(plan.split))
    preset = plan.preset or choose_preset(name, train)[0]
    points = _points(grid)
    # raises on a wrong option before any work is done
    heads = [create_head(name, preset, **options) for options in points]
    tested = [*on.test_ood, *_recorded_tests(selection)]
    _refuse_overlap(on.validation_ood, dataset_name(train), tested)
    outliers = find_set(
        selection.cache, train, on.validation_ood, data_dir=selection.data_dir, reporter=reporter
    )
    _refuse_overlap(dataset_name(outliers), dataset_name(train), tested)
    kept, validation, where = validation_rows(selection, train, HELD_OUT, on.seed)
    reporter.line(f"tuning {name} on {where} against {outliers.name}: {len(points)} points")
    found = tune(heads, kept, validation, outliers, reporter=reporter)
    # options as given in the grid: a head may convert them
    rows = [dataclasses.replace(row, options=options) for row, options in zip(found, points, strict=True)]
    best = _best(rows, on.metric)
    seen = SeenOutliers.of(
        outliers, validated_on=where, test_ood=tuple(on.test_ood), metric=on.metric,
        value=best.metrics[on.metric], grid={option: list(values) for option, values in grid.items()},
    )  # fmt: skip
    head, folder = fit_head(selection, name, best.options, plan, chosen_on=seen, reporter=reporter)
    return Tuning(rows, best, seen, head, folder)


def _points(grid: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    for option, values in grid.items():
        if not values:
            raise UsageError(f"the grid has no values for {option}")
    if not grid:
        raise UsageError("the grid is empty; name options and values, such as k=10,50,200")
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def _refuse_overlap(validation: str, in_distribution: str, tested: Sequence[str]) -> None:
    if overlap(validation, in_distribution):
        raise UsageError(f"{validation} is the in-distribution set; name another set for --validation-ood")
    for name in tested:
        if overlap(validation, name):
            raise UsageError(
                f"{name} is a test set, of this head or of one tuned earlier; name another set for --validation-ood"
            )


def _recorded_tests(selection: Selection) -> list[str]:
    """Return the sets that were named as test sets when heads of this selection were tuned."""
    names: list[str] = []
    for path in find_heads(selection).values():
        try:  # reads the record only; a damaged head is reported when it is used
            meta = json.loads((path / "head.json").read_bytes())["meta"]
            names += meta.get("tuned", {}).get("test_ood", ())
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
    return names


def _try(
    head: Head, train: FeatureSet, validation: FeatureSet, outliers: FeatureSet, reporter: Reporter
) -> TuningRow:
    """Fit and score one point, and return its metrics or its error."""
    start = time.perf_counter()
    try:
        if head.learns:
            head = dataclasses.replace(head)  # a copy, so that the fit is freed after this point
            head.fit(train, context=FitContext(reporter.task(f"training {head.name}")))
        seconds = time.perf_counter() - start
        scores = [np.asarray(head.score(rows)) for rows in (validation, outliers)]
        return TuningRow(head.options, detection_metrics(*scores), round(seconds, 3))
    except FeatoodError as error:
        return TuningRow(head.options, error=str(error))


def _best(rows: Sequence[TuningRow], metric: str) -> TuningRow:
    found = {index: row.metrics[metric] for index, row in enumerate(rows) if not row.error}
    if not found:
        raise DataError(f"every point of the grid failed; the first error: {rows[0].error}")
    return rows[best_of(found, metric)]
