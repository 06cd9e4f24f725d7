"""The data that the page draws its figures from, as JSON."""

from __future__ import annotations

__all__ = ["PageSources", "ThumbnailReader", "as_json", "inlier_names", "page_data"]

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from featood.cache.feature_set import FeatureSet
from featood.report.page.curves import HeadCurves, head_curves
from featood.report.page.feature_map import chosen_rows, map_points, projections
from featood.report.page.hardest import hardest_rows, worst_classes
from featood.report.page.matrix import Matrix
from featood.report.rows import printable

ThumbnailReader = Callable[[FeatureSet, Sequence[int]], Mapping[int, bytes]]
"""Returns small WebP files of rows of a set, as far as its images can be read."""

THUMBNAILS = 400
"""Largest number of pictures on a page."""
_NAME = 60


class PageSources(NamedTuple):
    """What the figures are drawn from."""

    scores: Mapping[tuple[str, str], ArrayLike]
    """Scores ``[N]`` by head and set."""
    sets: Mapping[str, FeatureSet]
    """The sets by name, as far as they are known."""
    predictions: Mapping[tuple[str, str], np.ndarray | None]
    """Predicted classes ``[N]`` by head and set."""
    thumbnails: ThumbnailReader | None
    """None for no pictures."""


def page_data(results: Mapping[str, Any], matrix: Matrix, sources: PageSources) -> dict[str, Any]:
    """Collect the data of the page.

    Parameters
    ----------
    results : dict
        Content of `featood score --json`.
    matrix : Matrix
        Heads and sets.
    sources : PageSources
        Heads without scores on all sets get no curves.

    Raises
    ------
    DataError
        If scores contain NaN.
    """
    inliers = inlier_names(results)
    outliers = [column for column in matrix.columns if not column.is_mean]
    names = [*inliers, *(column.title for column in outliers)]
    # of several seeds, only the first is drawn
    labels = [row["labels"][0] if "labels" in row else row["head"] for row in _first_cells(matrix)]
    drawn = {
        label: {name: np.asarray(sources.scores[label, name], np.float64) for name in names}
        for label in dict.fromkeys(labels)
        if all((label, name) in sources.scores for name in names)
    }
    curves = {
        label: head_curves(scores, inliers, _correct(label, inliers, sources))
        for label, scores in drawn.items()
    }
    sizes = [len(next(iter(drawn.values()))[name]) for name in names] if drawn else [0] * len(names)
    return {
        "sets": [
            {"name": printable(name), "kind": kind, "n": size}
            for name, kind, size in zip(
                names, ["id"] + ["shifted"] * len(inliers[1:]) + ["ood"] * len(outliers), sizes, strict=True
            )
        ],
        "matrix": _matrix(matrix),
        "heads": labels,
        "curves": {label: one.as_json() for label, one in curves.items()},
        "classes": _worst_classes(drawn, curves, inliers, sources),
        "hardest": _hardest(drawn, inliers, sources),
        "map": _feature_map(drawn, curves, names, sources),
        "reliability": results["id"].get("reliability"),
    }


def inlier_names(results: Mapping[str, Any]) -> list[str]:
    """Return the names of the sets that count as in-distribution, the ID set first."""
    about = results["id"]
    return [about["dataset"], *(entry["dataset"] for entry in about.get("shifted", ()))]


def as_json(data: Mapping[str, Any]) -> str:
    """Return data as JSON that cannot end the script element that contains it."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _first_cells(matrix: Matrix) -> list[Mapping[str, Any]]:
    return [next(cell for cell in line if cell and "sets" not in cell) for line in matrix.cells]


def _matrix(matrix: Matrix) -> dict[str, Any]:
    """Return values, shades and intervals by metric, head and column."""

    def cell(row: Mapping[str, Any] | None, shade: int | None, key: str) -> list[Any] | None:
        if row is None or row.get(key) is None:
            return None
        bounds = [row.get(f"{key}_low"), row.get(f"{key}_high")]
        numbers = [row[key], *(bounds if None not in bounds else [])]
        return [shade, *(round(number, 6) for number in numbers)]

    return {
        "columns": [
            {"title": printable(one.title), "group": one.group, "mean": one.is_mean} for one in matrix.columns
        ],
        "metrics": [
            {"key": one.key, "title": one.title, "higher": one.higher_is_better, "ends": matrix.ends[one.key]}
            for one in matrix.metrics
        ],
        "cells": {
            one.key: [
                [cell(row, shade, one.key) for row, shade in zip(rows, shades, strict=True)]
                for rows, shades in zip(matrix.cells, matrix.shades[one.key], strict=True)
            ]
            for one in matrix.metrics
        },
    }


def _labels(features: FeatureSet | None) -> np.ndarray | None:
    return None if features is None or features.labels is None else np.asarray(features.labels[:])


def _correct(label: str, inliers: Sequence[str], sources: PageSources) -> dict[str, np.ndarray]:
    found = {}
    for name in inliers:
        labels, predicted = _labels(sources.sets.get(name)), sources.predictions.get((label, name))
        if labels is not None and predicted is not None and (labels >= 0).any():
            found[name] = np.where(labels >= 0, predicted == labels, -1)
    return found


def _worst_classes(
    drawn: Mapping[str, Mapping[str, np.ndarray]],
    curves: Mapping[str, HeadCurves],
    inliers: Sequence[str],
    sources: PageSources,
) -> dict[str, Any]:
    """Return the classes with the most errors at the threshold that accepts 95 % of ID, by head and set."""
    labels = {name: found for name, one in sources.sets.items() if (found := _labels(one)) is not None}
    labels = {name: found for name, found in labels.items() if len(np.unique(found[found >= 0])) > 1}
    names: dict[str, dict[int, str]] = {name: {} for name in labels}
    heads: dict[str, list[Any]] = {}
    for head, scores in drawn.items():
        accepted = curves[head].thresholds[curves[head].start]
        heads[head] = []
        for name, values in scores.items():
            if name not in labels:
                heads[head].append(None)
                continue
            flagged = values > accepted
            worst = worst_classes(labels[name], flagged if name in inliers else ~flagged)
            given = sources.sets[name].classes
            names[name] |= {
                number: printable(given[number])[:_NAME] if number < len(given) else str(number)
                for number in worst[0]
            }
            heads[head].append(worst)
    order = list(next(iter(drawn.values()))) if drawn else []
    return {"names": [names.get(name, {}) for name in order], "heads": heads}


def _hardest(
    drawn: Mapping[str, Mapping[str, np.ndarray]], inliers: Sequence[str], sources: PageSources
) -> dict[str, Any]:
    """Return the rows that each head decides worst, and pictures of as many as fit, those of the best heads first."""
    rows: dict[tuple[str, int], int] = {}
    heads: dict[str, list[Any]] = {}
    for head, scores in drawn.items():
        heads[head] = []
        for name, values in scores.items():
            worst = hardest_rows(values, name in inliers).tolist()
            numbers = [rows.setdefault((name, row), len(rows)) for row in worst]
            finite = np.nan_to_num(values[worst])
            heads[head].append([numbers, [float(f"{score:.4g}") for score in finite]])
    wanted: dict[str, list[int]] = {}
    for name, row in list(rows)[:THUMBNAILS]:  # the heads are in the order of their AUROC
        wanted.setdefault(name, []).append(row)
    pictures = {}
    if sources.thumbnails is not None:
        for name, chosen in wanted.items():
            if name in sources.sets:
                found = sources.thumbnails(sources.sets[name], chosen)
                pictures |= {(name, row): base64.b64encode(found[row]).decode() for row in found}
    ids = {name: one.ids[:] for name, one in sources.sets.items() if one.ids is not None}
    table = []
    for name, row in rows:
        text = printable(ids[name][row]) if name in ids else str(row)
        table.append([text if len(text) <= _NAME else f"...{text[-_NAME:]}", pictures.get((name, row), "")])
    return {"rows": table, "heads": heads, "pictures": len(pictures)}


def _feature_map(
    drawn: Mapping[str, Mapping[str, np.ndarray]],
    curves: Mapping[str, HeadCurves],
    names: Sequence[str],
    sources: PageSources,
) -> dict[str, Any] | None:
    """Return coordinates of some rows, and the positions of their scores among the thresholds of each head."""
    sets = {name: sources.sets[name] for name in names if name in sources.sets}
    rows = chosen_rows(sets) if list(sets)[:1] == list(names[:1]) else {}
    if not rows or not drawn:
        return None
    planes = projections(map_points(sets, rows))
    return {
        "planes": {name: _bytes(_coordinates(plane)) for name, plane in planes.items()},
        "sets": [[names.index(name), len(chosen)] for name, chosen in rows.items()],
        "positions": {
            head: _bytes(
                np.concatenate(
                    [curves[head].positions(scores[name][chosen]) for name, chosen in rows.items()]
                )
            )
            for head, scores in drawn.items()
        },
    } if planes else None


def _coordinates(plane: np.ndarray) -> np.ndarray:
    """Return coordinates with the central 99 % of each axis between 0 and 65535, and the rest at the margins."""
    low, high = np.quantile(plane, [0.005, 0.995], axis=0)
    # both axes have the same scale
    half = (high - low).max() / 2 * 1.05 or 1.0
    centre = (low + high) / 2
    return (np.clip((plane - centre) / half / 2 + 0.5, 0, 1) * 65535).round().astype("<u2")


def _bytes(values: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()
