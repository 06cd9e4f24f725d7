"""``featood report``."""

from __future__ import annotations

__all__ = ["report", "save_report"]

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import rich_click as click

from featood.cli.common import Place, cache_of, quiet_downloads
from featood.cli.runs import repeatable, write_run_option
from featood.cli.scoring import run_scoring, what_to_score, what_to_show
from featood.reporter import TerminalReporter, print_line

if TYPE_CHECKING:
    from featood.pipeline.scoring import Scoring


@click.command()
@what_to_score
@click.option(
    "--from",
    "results_path",
    type=click.Path(dir_okay=False),
    help="Show saved results (of score --json), without scoring again.",
)
@click.option(
    "--scores",
    "scores_path",
    type=click.Path(dir_okay=False),
    help="With --from: the scores of these results (of score --scores), for the figures.",
)
@click.option(
    "--maps",
    "maps_path",
    type=Place(file_okay=False),
    help="Show the results and score maps of featood dense score, from the folder that it names.",
)
@what_to_show
@click.option(
    "--out",
    default="report.html",
    show_default=True,
    type=Place(dir_okay=False),
    help="The page to write.",
)
@write_run_option
@quiet_downloads
@repeatable
def report(
    out: str, results_path: str | None, scores_path: str | None, maps_path: str | None, thumbnails: bool,
    umap: bool | None, **what: Any,
) -> None:  # fmt: skip
    """Write one self-contained HTML page: a matrix of heads and sets, and figures of their scores.

    Example: featood report --from results.json --scores scores.parquet
    """
    from featood.errors import UsageError

    if maps_path is not None:
        if results_path or scores_path:
            raise UsageError("--maps has its own results; give no --from or --scores with it")
        _refuse_others(what, "--maps", "--data-dir")
        save_maps_report(maps_path, out, what["data_dir"])
        return
    if results_path is None:
        if scores_path:
            raise UsageError("--scores goes with --from; to save the scores, use featood score --scores")
        scoring = run_scoring(**what)
    else:
        scoring = _saved(results_path, scores_path, what)
    save_report(scoring, out, what["data_dir"], thumbnails, umap)


def _saved(results_path: str, scores_path: str | None, what: Mapping[str, Any]) -> Scoring:
    """Restore a scoring from its files, with the sets in the cache that have not changed."""
    from featood.pipeline.saved_results import read_results, saved_scoring
    from featood.report import read_scores

    _refuse_others(what, "--from", "--scores, --cache and --data-dir")
    results = read_results(results_path)
    with TerminalReporter() as reporter:
        if scores_path is None:
            reporter.line("no --scores: the report has no figures of scores")
        records = read_scores(scores_path) if scores_path else ()
        return saved_scoring(results, records, cache_of(what["cache_root"]), reporter=reporter)


def _refuse_others(what: Mapping[str, Any], option: str, allowed: str) -> None:
    """Raise if options say what to score, with one that shows saved results."""
    from featood.errors import UsageError

    unused = {"cache_root", "data_dir", *(("engine",) if what["engine"] == "local" else ())}
    if any(value for name, value in what.items() if name not in unused):
        raise UsageError(f"{option} shows saved results as they are: give only {allowed} with it")


def save_maps_report(folder: str, path: str, data_dir: str | None = None) -> None:
    """Write the HTML page of score maps and print its path."""
    from featood.pipeline.dense_results import saved_maps
    from featood.report import scored_images, write_report

    with TerminalReporter() as reporter, reporter.working("drawing the report"):
        results, found = saved_maps(folder, data_dir)
        order = sorted(results["rows"], key=lambda row: -(row.get("auroc") or 0))
        maps = {row["head"]: found.maps[row["head"]] for row in order}
        images = found.masked.images
        shown = scored_images(maps, found.masks, images.ids, images.read)
        write_report(path, results, {}, images=shown, date=_now())
    print_line(f"report: {path}")


def _now() -> str:
    import datetime

    return datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")


def save_report(
    scoring: Scoring,
    path: str,
    data_dir: str | None = None,
    thumbnails: bool = True,
    umap: bool | None = None,
) -> None:
    """Write the HTML page and print its path."""
    import functools
    from importlib.util import find_spec

    from featood.pipeline.network_pictures import network_pictures
    from featood.pipeline.thumbnails import thumbnails as read_thumbnails
    from featood.report import write_report

    # a folder of compiled code that an uninstallation has left has no origin
    by_umap = getattr(find_spec("umap"), "origin", None) is not None if umap is None else umap
    if by_umap and umap is None:
        print_line("the features are also mapped by UMAP, in half a minute (--no-umap omits it)")
    with TerminalReporter() as reporter, reporter.working("drawing the report"):
        write_report(
            path, scoring.results, scoring.scores, sets=scoring.sets, predictions=scoring.predictions,
            thumbnails=functools.partial(read_thumbnails, data_dir=data_dir) if thumbnails else None,
            umap=by_umap, maps=scoring.maps, date=_now(),
            pictures=network_pictures(next(iter(scoring.sets.values()))) if scoring.sets else None,
        )  # fmt: skip
    print_line(f"report: {path}")
