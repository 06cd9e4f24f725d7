"""The report: one HTML page that holds everything it shows."""

from __future__ import annotations

__all__ = ["write_report"]

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from numpy.typing import ArrayLike

from featood.errors import DataError
from featood.report.files import write_text
from featood.report.plots import reliability_diagram, roc_curves, score_histogram
from featood.report.rows import METRIC_COLUMNS, best_cells, mean_rows, percent, printable, with_means


def write_report(
    path: str | Path,
    results: Mapping[str, Any],
    scores: Mapping[tuple[str, str], ArrayLike],
    *,
    reliability: tuple[ArrayLike, ArrayLike, ArrayLike] | None = None,
    date: str = "",
) -> None:
    """Write metrics, score histograms, ROC curves and calibration as one self-contained HTML page.

    Nothing is fetched when the page is opened: styles and figures are inside, and it runs no scripts.

    Parameters
    ----------
    path : path
        Where to write; "-" is standard output.
    results : dict
        What `featood score --json` writes: `backbone`, `fingerprint`, `id` and `rows`. In `id`, `ece`,
        `nll` and `brier` are shown where present; so are `warnings` (list of str) and `versions` (dict).
    scores : dict of arrays
        Scores by (head, set); the ID set goes by its dataset name. Heads without scores get no figures.
    reliability : tuple of arrays, optional
        Confidence, accuracy and rows by bin, from `featood.metrics.reliability_curve`.
    date : str
        When the results were made, as it shall read.

    Raises
    ------
    DataError
        If `results` lack a part, scores hold NaN, or the file cannot be written.
    """
    if missing := {"backbone", "fingerprint", "id", "rows"} - results.keys():
        raise DataError(f"results lack {sorted(missing)}; a report needs what `featood score --json` writes")
    means = mean_rows(results["rows"])
    compared = len(means) > 1 and all(len(mean["sets"]) > 1 for mean in means)
    page = _environment().get_template("report.html")
    write_text(
        path,
        page.render(
            results=results,
            rows=with_means(results["rows"]),
            means=sorted(means, key=lambda row: -row.get("auroc", 0)) if compared else [],
            columns=METRIC_COLUMNS,
            figures={mean["head"]: _figures(mean["head"], mean["sets"], results, scores) for mean in means},
            reliability=reliability and _inline(reliability_diagram(*reliability)),
            date=date,
        ),
    )


def _figures(
    head: str, sets: list[str], results: Mapping[str, Any], scores: Mapping[tuple[str, str], ArrayLike]
) -> dict[str, Markup]:
    """Histogram and ROC curves of one head, where its scores are there."""
    id_name = results["id"]["dataset"]
    id_scores = scores.get((head, id_name))
    ood = {name: scores[head, name] for name in sets if (head, name) in scores}
    if id_scores is None or not ood:
        return {}
    return {
        "Scores": _inline(score_histogram(id_scores, ood, f"{id_name} (ID)")),
        "ROC curves": _inline(roc_curves(id_scores, ood)),
    }


def _inline(svg: bytes) -> Markup:
    return Markup(svg.decode())


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("featood.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(percent=percent, printable=printable, best=best_cells)
    return environment
