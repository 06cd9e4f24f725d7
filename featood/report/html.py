"""The report: one self-contained HTML page."""

from __future__ import annotations

__all__ = ["environment", "inline", "write_report"]

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import jinja2
import numpy as np
from markupsafe import Markup
from numpy.typing import ArrayLike

from featood.errors import DataError
from featood.report.comparison import closest_tests, comparison_lines, how_made, probability
from featood.report.comparison_plots import interval_plot, rank_plot
from featood.report.files import write_text
from featood.report.plots import reliability_diagram, roc_curves, score_histogram, score_map
from featood.report.rows import (
    METRIC_COLUMNS,
    OPEN_SET_COLUMNS,
    best_cells,
    cell,
    collapsed,
    headline,
    interval,
    least_accurate,
    mean_rows,
    percent,
    printable,
    with_means,
)


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
    reliability: tuple[ArrayLike, ArrayLike, ArrayLike] | None = None,
    maps: ScoreMaps | None = None,
    pictures: Mapping[str, bytes] | None = None,
    date: str = "",
) -> None:
    """Write metrics, score histograms, ROC curves and calibration as one self-contained HTML page.

    The page contains its styles and figures, fetches nothing, and runs no scripts.

    Parameters
    ----------
    path : path
        The file to write; "-" is standard output.
    results : dict
        Content of `featood score --json`: `backbone`, `fingerprint`, `id` and `rows`. If present, `ece`, `nll`,
        `brier`, `classes`, `shifted` and `joined` in `id`, `warnings` (list of str), `skipped` (list of dict with
        `head` and `reason`) and `versions` (dict) are shown too.
    scores : dict of arrays
        Scores by (head, set); the key of the ID set is its dataset name. Heads without scores get no figures.
    reliability : tuple of arrays, optional
        Confidence, accuracy and number of rows per bin, from `featood.metrics.reliability_curve`.
    maps : ScoreMaps, optional
        Scores of each head over the plane, drawn after the ROC curves.
    pictures : dict of bytes, optional
        PNG files of what the network generates, by what they show.
    date : str
        Date of the results, as text.

    Raises
    ------
    DataError
        If a key is missing in `results`, scores contain NaN, or the file cannot be written.
    """
    if missing := {"backbone", "fingerprint", "id", "rows"} - results.keys():
        raise DataError(
            f"results lack {sorted(missing)}; a report needs the content of `featood score --json`"
        )
    shown = collapsed(results)
    comparison = results.get("comparison")
    intervals = comparison["means"] if comparison else ()
    means = mean_rows(shown, intervals)
    compared = len(means) > 1 and all(len(mean["sets"]) > 1 for mean in means)
    # of several seeds, only the first is drawn
    drawn = {row["labels"][0] if "labels" in row else row["head"] for row in shown}
    open_set = [column for column in OPEN_SET_COLUMNS if any(column.key in row for row in results["rows"])]
    page = environment().get_template("report.html")
    write_text(
        path,
        page.render(
            results=results,
            rows=with_means(shown, intervals),
            means=sorted(means, key=lambda row: -row.get("auroc", 0)) if compared else [],
            columns=[*METRIC_COLUMNS, *open_set],
            open_set=bool(open_set),
            figures={
                row["head"]: _figures(row["head"], row["sets"], results, scores, maps)
                for row in mean_rows(results["rows"])
                if row["head"] in drawn
            },
            reliability=reliability and inline(reliability_diagram(*reliability)),
            plane=maps is not None,
            pictures={name: base64.b64encode(png).decode() for name, png in (pictures or {}).items()},
            comparison=comparison,
            comparison_figures=_comparison_figures(comparison, means if means[0]["sets"][1:] else shown)
            if comparison
            else {},
            tests=sorted(closest_tests(comparison), key=_order) if comparison else [],
            lines=comparison_lines(results),
            date=date,
        ),
    )


def _comparison_figures(
    comparison: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> dict[str, Markup]:
    """Draw the heads' intervals of the mean, or on the only set, and their ranks over the sets."""
    known = sorted((row for row in rows if "auroc_low" in row), key=lambda row: -row["auroc"])
    figures = {}
    if len(known) > 1:
        where = (
            f"the mean over {len(known[0]['sets'])} sets"
            if len(known[0].get("sets", ())) > 1
            else known[0]["ood"]
        )
        figures[f"{how_made(comparison).partition(' of ')[0]} of AUROC, {where}"] = inline(
            interval_plot(known)
        )
    if ranking := comparison.get("ranking"):
        ranks = rank_plot(ranking["mean_ranks"], ranking["cliques"])
        figures["Mean rank over the sets; bars join heads that do not differ"] = inline(ranks)
    return figures


def _order(test: Mapping[str, Any]) -> tuple[int, float]:
    """Sort key: by metric, then by difference from the best."""
    return [column.key for column in METRIC_COLUMNS].index(test["metric"]), abs(test["difference"])


def _figures(
    head: str,
    sets: Sequence[str],
    results: Mapping[str, Any],
    scores: Mapping[tuple[str, str], ArrayLike],
    maps: ScoreMaps | None,
) -> dict[str, Markup]:
    """Draw histogram, ROC curves and score map of one head, as far as its scores are given."""
    about = results["id"]
    inliers = [about["dataset"], *(entry["dataset"] for entry in about.get("shifted", ()))]
    ood = {name: scores[head, name] for name in sets if (head, name) in scores}
    if not ood or any((head, name) not in scores for name in inliers):
        return {}
    id_scores = np.concatenate([np.asarray(scores[head, name]) for name in inliers])
    joined = f"{inliers[0]} + {len(inliers) - 1} shifted" if inliers[1:] else inliers[0]
    figures = {
        "Scores": inline(score_histogram(id_scores, ood, f"{joined} (ID)")),
        "ROC curves": inline(roc_curves(id_scores, ood)),
    }
    if maps is not None and head in maps.grids:
        points = {f"{name} (ID)" if name in inliers else name: rows for name, rows in maps.points.items()}
        drawn = score_map(maps.grids[head], maps.extent, points, id_scores, maps.axes)
        figures["Scores in the plane"] = inline(drawn)
    return figures


def inline(svg: bytes) -> Markup:
    """Return a figure as a part of a page."""
    return Markup(svg.decode())


def environment() -> jinja2.Environment:
    """Return the templates of pages; every text that they show is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("featood.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(
        percent=percent,
        printable=printable,
        probability=probability,
        how_made=how_made,
        titled=lambda key: next(column.title for column in METRIC_COLUMNS if column.key == key),
        best=best_cells,
        cell=cell,
        headline=headline,
        interval=interval,
        least_accurate=least_accurate,
    )
    return environment
