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
from featood.report.matrix import Matrix
from featood.report.page.curves import HeadCurves, head_curves
from featood.report.page.feature_map import chosen_rows, map_points, projections
from featood.report.page.hardest import hardest_rows, worst_classes
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
    umap: bool = False
    """Whether the map of the features also uses UMAP."""


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
    drawn = {
        label: {name: np.asarray(sources.scores[label, name], np.float64) for name in names}
        for label in matrix.drawn
        if all((label, name) in sources.scores for name in names)
    }
    curves = {
        label: head_curves(scores, inliers, _correct(label, inliers, sources))
        for label, scores in drawn.items()
    }
    classes = _Classes(names, inliers, sources)
    hardest = _Hardest(inliers)
    rows = _mapped_rows(names, sources) if drawn else {}
    planes = projections(map_points(sources.sets, rows), sources.umap) if rows else {}
    heads: list[dict[str, Any] | None] = []
    for label in matrix.drawn:
        if label not in drawn:
            heads.append(None)
            continue
        scores, curve = drawn[label], curves[label]
        mapped = [curve.positions(scores[name][chosen]) for name, chosen in rows.items()]
        heads.append(
            {
                "name": printable(label),
                **curve.as_json(),
                "classes": classes.worst(scores, curve),
                "hardest": hardest.add(scores, curve),
                "mapped": _bytes(np.concatenate(mapped)) if planes else "",
            }
        )
    shifted = f" + {len(inliers) - 1} shifted" if inliers[1:] else ""
    kinds = ["id"] + ["shifted"] * len(inliers[1:]) + ["ood"] * len(outliers)
    return {
        "sets": [{"name": printable(name), "kind": kind} for name, kind in zip(names, kinds, strict=True)],
        "known": f"{printable(inliers[0])}{shifted} (ID)",
        "matrix": _matrix(matrix),
        "heads": heads,
        "classes": classes.names,
        "rows": hardest.as_json(sources),
        "map": {
            "planes": {name: _bytes(_coordinates(plane)) for name, plane in planes.items()},
            "sets": [[names.index(name), len(chosen)] for name, chosen in rows.items()],
        }
        if planes
        else None,
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


class _Classes:
    """Classes with the most errors at the threshold that accepts 95 % of ID, and the names of these classes."""

    def __init__(self, names: Sequence[str], inliers: Sequence[str], sources: PageSources) -> None:
        self._inliers = inliers
        found = [_labels(sources.sets.get(name)) for name in names]
        self._labels = [None if one is None or len(np.unique(one[one >= 0])) < 2 else one for one in found]
        self._given = [sources.sets[name].classes if name in sources.sets else () for name in names]
        self.names: list[dict[int, str]] = [{} for _ in names]

    def worst(self, scores: Mapping[str, np.ndarray], curve: HeadCurves) -> list[Any]:
        """Return class numbers, rows and shares by set; None for a set with fewer than two classes."""
        worst: list[Any] = []
        for place, (name, values) in enumerate(scores.items()):
            labels, given = self._labels[place], self._given[place]
            if labels is None:
                worst.append(None)
                continue
            flagged = values > curve.thresholds[curve.start]
            found = worst_classes(labels, flagged if name in self._inliers else ~flagged)
            self.names[place] |= {
                number: printable(given[number])[:_NAME] if number < len(given) else str(number)
                for number in found[0]
            }
            worst.append(found)
        return worst


class _Hardest:
    """The rows that the heads decide worst; a row that is hard for several heads is listed once."""

    def __init__(self, inliers: Sequence[str]) -> None:
        self._inliers = inliers
        self._rows: dict[tuple[str, int], int] = {}

    def add(self, scores: Mapping[str, np.ndarray], curve: HeadCurves) -> list[Any]:
        """Return by set the places of the rows in the list, their scores, and the positions of these."""
        found = []
        for name, values in scores.items():
            rows = hardest_rows(values, name in self._inliers)
            places = [self._rows.setdefault((name, row), len(self._rows)) for row in rows.tolist()]
            numbers = [float(f"{score:.4g}") for score in np.nan_to_num(values[rows])]
            found.append([places, numbers, curve.positions(values[rows]).tolist()])
        return found

    def as_json(self, sources: PageSources) -> list[list[str]]:
        """Return name and picture of each row; those of the heads that were added first get pictures."""
        wanted: dict[str, list[int]] = {}
        for name, row in list(self._rows)[:THUMBNAILS]:
            wanted.setdefault(name, []).append(row)
        pictures: dict[tuple[str, int], str] = {}
        for name, chosen in wanted.items():
            if sources.thumbnails is not None and name in sources.sets:
                found = sources.thumbnails(sources.sets[name], chosen)
                pictures |= {(name, row): base64.b64encode(found[row]).decode() for row in found}
        ids = {name: one.ids[:] for name, one in sources.sets.items() if one.ids is not None}
        table = []
        for name, row in self._rows:
            text = printable(ids[name][row]) if name in ids else str(row)
            shown = text if len(text) <= _NAME else f"...{text[-_NAME:]}"
            table.append([shown, pictures.get((name, row), "")])
        return table


def _mapped_rows(names: Sequence[str], sources: PageSources) -> dict[str, np.ndarray]:
    """Return the rows on the map by set; none if the features of the ID set are not known."""
    sets = {name: sources.sets[name] for name in names if name in sources.sets}
    return chosen_rows(sets) if names[0] in sets else {}


def _coordinates(plane: np.ndarray) -> np.ndarray:
    """Return coordinates with the central 99 % of each axis between 0 and 65535, and the rest at the margins."""
    low, high = np.quantile(plane, [0.005, 0.995], axis=0)
    # both axes have the same scale
    half = (high - low).max() / 2 * 1.05 or 1.0
    centre = (low + high) / 2
    return (np.clip((plane - centre) / half / 2 + 0.5, 0, 1) * 65535).round().astype("<u2")


def _bytes(values: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()
