"""The report: one self-contained HTML page."""

from __future__ import annotations

__all__ = ["write_report"]

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Protocol

import jinja2
import numpy as np
from markupsafe import Markup
from numpy.typing import ArrayLike

from featood.cache.feature_set import FeatureSet
from featood.errors import DataError
from featood.report.comparison import closest_tests, comparison_lines, how_made, probability
from featood.report.files import write_text
from featood.report.matrix import Matrix, head_matrix
from featood.report.page.data import PageSources, ThumbnailReader, as_json, inlier_names, page_data
from featood.report.page.images import ScoredImages
from featood.report.plots.heads import interval_plot, rank_plot
from featood.report.plots.maps import score_map
from featood.report.rows import (
    METRIC_COLUMNS,
    OPEN_SET_COLUMNS,
    best_cells,
    cell,
    collapsed,
    headline,
    interval,
    least_accurate,
    percent,
    printable,
    with_means,
)
from featood.report.templating import environment, inline

TEMPLATES = "featood.report.page"
SCRIPTS = ("svg.js", "matrix.js", "curves.js", "rows.js", "map.js", "explore.js")
"""Joined into one script, in this order."""
COMPONENT_TITLES = {
    "siou": "sIoU",
    "ppv": "PPV",
    "f1": "F1*",
    "pro": "AU-PRO",
    "image_auroc": "AUROC of images",
}


class ScoreMaps(Protocol):
    """Scores on a grid over the plane, for features with two dimensions."""

    extent: tuple[float, float, float, float]
    """Left, right, bottom and top of the grid."""
    axes: tuple[str, str]
    """Names of the two columns."""
    points: dict[str, np.ndarray]
    """Some rows ``[n, 2]`` of each set, the ID set first."""
    grids: dict[str, np.ndarray]
    """Scores ``[rows, columns]`` by head, the first row at the bottom."""


def write_report(
    path: str | Path,
    results: Mapping[str, Any],
    scores: Mapping[tuple[str, str], ArrayLike],
    *,
    sets: Mapping[str, FeatureSet] | None = None,
    predictions: Mapping[tuple[str, str], np.ndarray | None] | None = None,
    thumbnails: ThumbnailReader | None = None,
    umap: bool = False,
    maps: ScoreMaps | None = None,
    pictures: Mapping[str, bytes] | None = None,
    images: ScoredImages | None = None,
    date: str = "",
) -> None:
    """Write the metrics, and figures of the scores, as one self-contained HTML page.

    The page contains its data, styles and scripts, and fetches nothing. Without scripts, it shows the tables.

    Parameters
    ----------
    path : path
        The file to write; "-" is standard output.
    results : dict
        Content of `featood score --json`: `backbone`, `fingerprint`, `id` and `rows`. If present, `ece`, `nll`,
        `brier`, `reliability`, `classes`, `shifted` and `joined` in `id`, `groups` (names of the `near` and `far`
        sets), `comparison`, `warnings` (list of str), `skipped` (list of dict with `head` and `reason`), `versions`
        (dict), and `run` or `command` (how to get these results) are shown too.
    scores : dict of arrays
        Scores by (head, set); the key of the ID set is its dataset name. Heads without scores get no figures.
    sets : dict of FeatureSet, optional
        The sets by name, for figures of classes, of single rows and of the features.
    predictions : dict of arrays, optional
        Predicted classes by (head, set).
    thumbnails : callable, optional
        Returns WebP files of rows of a set, see `featood.report.page.data.ThumbnailReader`; by default no images are
        shown.
    umap : bool
        Also map the features by UMAP.
    maps : ScoreMaps, optional
        Scores of each head over the plane.
    pictures : dict of bytes, optional
        PNG files of what the network generates, by what they show.
    images : ScoredImages, optional
        Images with masks and score maps, see :func:`featood.report.page.images.scored_images`. Rows with the metrics of
        components (`siou`, `ppv`, `f1`, `pro`, `image_auroc`) have a table of these.
    date : str
        Date of the results, as text.

    Raises
    ------
    DataError
        If a key is missing in `results`, scores contain NaN, or the file cannot be written.
    MissingPackage
        If UMAP is asked for and not installed.
    """
    if missing := {"backbone", "fingerprint", "id", "rows"} - results.keys():
        raise DataError(
            f"results lack {sorted(missing)}; a report needs the content of `featood score --json`"
        )
    if not results["rows"]:
        raise DataError("results have no rows, so there is nothing to report")
    shown = collapsed(results)
    comparison = results.get("comparison")
    intervals = comparison["means"] if comparison else ()
    matrix = head_matrix(shown, results.get("groups", {}), intervals)
    data = page_data(results, matrix, PageSources(scores, sets or {}, predictions or {}, thumbnails, umap))
    script = "".join(_text(name) for name in SCRIPTS)
    write_text(
        path,
        _environment()
        .get_template("report.html")
        .render(
            results=results,
            matrix=matrix,
            rows=with_means(shown, intervals),
            columns=matrix.metrics,
            open_set=any(column in OPEN_SET_COLUMNS for column in matrix.metrics),
            data=data,
            json=Markup(as_json(data)),
            styles=Markup(_text("report.css")),
            script=Markup(script),
            script_hash=_hash(script),
            planes=_planes(matrix, inlier_names(results), scores, maps),
            images=images,
            component_titles=COMPONENT_TITLES,
            pictures={name: base64.b64encode(png).decode() for name, png in (pictures or {}).items()},
            comparison=comparison,
            comparison_figures=_comparison_figures(comparison, matrix, shown) if comparison else {},
            tests=sorted(closest_tests(comparison), key=_order) if comparison else [],
            lines=comparison_lines(results),
            date=date,
        ),
    )


def _text(name: str) -> str:
    return resources.files(TEMPLATES).joinpath("templates", name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    """Return the digest by which the page's security policy allows this script and no other."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _comparison_figures(
    comparison: Mapping[str, Any], matrix: Matrix, shown: Sequence[Mapping[str, Any]]
) -> dict[str, Markup]:
    """Draw the heads' intervals of the mean, or on the only set, and their ranks over the sets."""
    several = len(matrix.rows[0]["sets"]) > 1
    rows = matrix.rows if several else shown
    known = sorted((row for row in rows if "auroc_low" in row), key=lambda row: -row["auroc"])
    figures = {}
    if len(known) > 1:
        where = f"the mean over {len(known[0]['sets'])} sets" if several else printable(known[0]["ood"])
        level = how_made(comparison).partition(" of ")[0]
        figures[f"{level} of AUROC, {where}"] = inline(interval_plot(known))
    if ranking := comparison.get("ranking"):
        ranks = rank_plot(ranking["mean_ranks"], ranking["cliques"])
        figures["Mean rank over the sets; bars join heads that do not differ"] = inline(ranks)
    return figures


def _order(test: Mapping[str, Any]) -> tuple[int, float]:
    """Sort key: by metric, then by difference from the best."""
    return [column.key for column in METRIC_COLUMNS].index(test["metric"]), abs(test["difference"])


def _planes(
    matrix: Matrix,
    inliers: Sequence[str],
    scores: Mapping[tuple[str, str], ArrayLike],
    maps: ScoreMaps | None,
) -> dict[int, Markup]:
    """Draw the scores of each head over the plane, by row of the matrix, if its features have two dimensions."""
    planes: dict[int, Markup] = {}
    if maps is None:
        return planes
    points = {f"{name} (ID)" if name in inliers else name: rows for name, rows in maps.points.items()}
    for row, head in enumerate(matrix.drawn):
        if head in maps.grids and all((head, name) in scores for name in maps.points):
            known = np.concatenate([np.asarray(scores[head, name]) for name in inliers])
            planes[row] = inline(score_map(maps.grids[head], maps.extent, points, known, maps.axes))
    return planes


def _environment() -> jinja2.Environment:
    found = environment(TEMPLATES)
    found.filters.update(
        percent=percent,
        probability=probability,
        how_made=how_made,
        titled=lambda key: next(column.title for column in METRIC_COLUMNS if column.key == key),
        best=best_cells,
        cell=cell,
        headline=headline,
        interval=interval,
        least_accurate=least_accurate,
        as_lines=_as_lines,
    )
    return found


def _as_lines(value: Any) -> str:
    """Return text as it is, and anything else as JSON."""
    text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
    return "\n".join(map(printable, text.splitlines()))
