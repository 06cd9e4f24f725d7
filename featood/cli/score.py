"""``featood score`` and ``featood report``."""

from __future__ import annotations

__all__ = ["print_results", "report", "save_report", "score"]

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import rich_click as click

from featood.cli.common import (
    Place,
    backbone_option,
    cache_of,
    cache_option,
    code_option,
    data_dir_option,
    dataset_option,
    head_file_option,
    quiet_downloads,
    split_names,
)
from featood.cli.completion import fitted_heads, outlier_sets, shifted_sets, suites
from featood.cli.runs import current_run, pin, repeatable, write_run_option
from featood.reporter import TerminalReporter, print_line

if TYPE_CHECKING:
    from featood.pipeline.comparison import Uncertainty
    from featood.pipeline.scoring import Scoring
    from featood.report import Order


def _known_suites(_: click.Context, __: click.Parameter, names: tuple[str, ...]) -> tuple[str, ...]:
    if names:
        from featood.data import suite

        for name in names:
            suite(name)
    return names


def what_to_score(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that ``score`` and ``report`` share."""
    flag = {"is_flag": True}
    head, ood, suite, shifted = (
        {"multiple": True, "shell_complete": names}
        for names in (fitted_heads, outlier_sets, suites, shifted_sets)
    )
    named = (
        ("--head", "heads", head, "Head to score with: a name or the folder of a fitted head (default: all fitted)."),
        ("--all", "every", flag, "Score every head whose inputs are in the cache, fitting those not fitted yet."),
        ("--training", "training", flag, "With --all: also fit heads that train a network (minutes each)."),
        ("--which", "which", {"default": ""}, "Score of heads that have several, or 'all' (default: as fitted)."),
        ("--ood", "ood", ood, "Out-of-distribution set; may be repeated or comma-separated."),
        ("--suite", "suite", {**suite, "callback": _known_suites}, "A named list of sets, such as cifar10-near."),
        ("--shifted", "shifted", shifted,
         "Set of the same classes, or list such as imagenet-shifted, whose rows count as in-distribution, too "
         "(full-spectrum detection); may be repeated or comma-separated."),
        ("--split", "split", {"default": ""}, "In-distribution split to score (default: test, else val)."),
        ("--limit", "limit", {"type": click.IntRange(1)},
         "For a quick try: use only so many images of each set but the in-distribution set, as NAME:limit=N."),
        ("--download", "download", flag, "Download sets that are missing and have a public address."),
        ("--intervals", "intervals", {"type": click.Choice(["delong", "bootstrap"])},
         "Add intervals and test which heads differ: AUROC by DeLong's formula, or every metric by bootstrap."),
        ("--confidence", "confidence", {"type": click.FloatRange(0, 100, min_open=True, max_open=True)},
         "Confidence level of the intervals, in percent (default: 95)."),
        ("--resamples", "resamples", {"type": click.IntRange(1)}, "Number of bootstrap resamples (default: 1000)."),
        ("--force", "force", flag, "Accept features of another backbone, and sets that heads were fitted or tuned on."),
    )  # fmt: skip
    for add in (
        cache_option,
        data_dir_option,
        head_file_option,
        code_option,
        dataset_option,
        backbone_option,
    ):
        command = add(command)
    for name, parameter, kind, text in reversed(named):
        command = click.option(name, parameter, help=text, **kind)(command)
    return command


def what_to_show(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of the HTML report."""
    command = click.option(
        "--umap/--no-umap", default=None,
        help="Map the features by UMAP in the report, too, in half a minute (default: if it is installed).",
    )(command)  # fmt: skip
    return click.option(
        "--thumbnails/--no-thumbnails", default=True, show_default=True,
        help="Embed small pictures of the hardest rows in the report.",
    )(command)  # fmt: skip


@click.command()
@what_to_score
@click.option(
    "--json",
    "json_path",
    type=Place(dir_okay=False, allow_dash=True),
    help="Write the results as JSON ('-': standard output).",
)
@click.option(
    "--csv",
    "csv_path",
    type=Place(dir_okay=False, allow_dash=True),
    help="Write the rows as CSV ('-': standard output).",
)
@click.option(
    "--scores", "scores_path", type=Place(dir_okay=False), help="Write the scores of every sample as Parquet."
)
@click.option("--report", "report_path", type=Place(dir_okay=False), help="Also write the HTML report.")
@click.option(
    "--openood",
    "openood_path",
    type=Place(file_okay=False),
    help="Write a file HEAD.csv for each head into this folder, as OpenOOD does for its leaderboard.",
)
@click.option(
    "--sort",
    "by",
    default="auroc",
    show_default=True,
    metavar="METRIC[:SET]",
    help="Metric by which the table is sorted: of the mean over the sets, or of near, far or one set.",
)
@click.option("--top", type=click.IntRange(1), help="Number of heads in the table (default: all).")
@click.option(
    "--fold/--no-fold",
    default=True,
    show_default=True,
    help="List heads that rank all rows alike on one line.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "markdown", "latex", "csv"]),
    default="text",
    show_default=True,
    help="Format of the table.",
)
@what_to_show
@write_run_option
@quiet_downloads
@repeatable
def score(
    json_path: str | None, csv_path: str | None, scores_path: str | None, report_path: str | None,
    openood_path: str | None, by: str, top: int | None, fold: bool, form: str, thumbnails: bool,
    umap: bool | None, **what: Any,
) -> None:  # fmt: skip
    """Score heads on the test set against out-of-distribution sets.

    A set that is not in the cache is extracted first, in the same way as the in-distribution set.

    Example: featood score --ood lsun-crop
    """
    from featood.report import Order

    order = Order(by, top, fold)
    scoring = _run(**what)
    if json_path:
        from featood.report import write_json

        write_json(json_path, scoring.results)
    if csv_path:
        from featood.report import write_csv

        write_csv(csv_path, scoring.results["rows"])
    if scores_path:
        from featood.report import write_scores

        write_scores(scores_path, scoring.records())
    if report_path:
        save_report(scoring, report_path, what["data_dir"], thumbnails, umap)
    if openood_path:
        from featood.report import write_openood

        for file in write_openood(openood_path, scoring.results, scoring.scores):
            print_line(f"OpenOOD's columns: {file}")
    if "-" not in (json_path, csv_path):
        print_results(scoring, order, form)


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
    out: str, results_path: str | None, scores_path: str | None, thumbnails: bool, umap: bool | None,
    **what: Any,
) -> None:  # fmt: skip
    """Write one self-contained HTML page: a matrix of heads and sets, and figures of their scores.

    Example: featood report --from results.json --scores scores.parquet
    """
    from featood.errors import UsageError

    if results_path is None:
        if scores_path:
            raise UsageError("--scores goes with --from; to save the scores, use featood score --scores")
        scoring = _run(**what)
    else:
        scoring = _saved(results_path, scores_path, what)
    save_report(scoring, out, what["data_dir"], thumbnails, umap)


def _saved(results_path: str, scores_path: str | None, what: Mapping[str, Any]) -> Scoring:
    """Restore a scoring from its files, with the sets in the cache that have not changed."""
    from featood.errors import UsageError
    from featood.pipeline.saved_results import read_results, saved_scoring
    from featood.report import read_scores

    if any(value for name, value in what.items() if name not in ("cache_root", "data_dir")):
        raise UsageError(
            "--from shows saved results as they are: give only --scores, --cache and --data-dir with it"
        )
    results = read_results(results_path)
    with TerminalReporter() as reporter:
        if scores_path is None:
            reporter.line("no --scores: the report has no figures of scores")
        records = read_scores(scores_path) if scores_path else ()
        return saved_scoring(results, records, cache_of(what["cache_root"]), reporter=reporter)


def _run(
    heads: tuple[str, ...], every: bool, training: bool, which: str, ood: tuple[str, ...], suite: tuple[str, ...],
    shifted: tuple[str, ...], split: str, limit: int | None, force: bool, download: bool,
    intervals: str | None, confidence: float | None, resamples: int | None,
    backbone: str, dataset: str, data_dir: str | None, cache_root: str, code: tuple[str, ...],
) -> Scoring:  # fmt: skip
    from featood.errors import UsageError
    from featood.pipeline.scoring import ScorePlan, score_selection
    from featood.pipeline.selection import select

    if every and heads:
        raise UsageError("--all scores every head; use either --all or --head")
    if every and which:
        raise UsageError("--all scores every head as it was fitted; omit --all to use --which")
    names, further = ([name for group in given for name in split_names(group)] for given in (ood, shifted))
    how = ScorePlan(
        split, which, force, _uncertainty(intervals, confidence, resamples), tuple(further), limit or 0
    )
    selection = select(cache_of(cache_root, backbone, code), backbone, dataset, data_dir)
    pin(backbone=selection.backbone, dataset=selection.dataset)
    selection = dataclasses.replace(selection, download=download)
    with TerminalReporter() as reporter:
        if every:
            from featood.pipeline.scoring_all import score_all

            scoring = score_all(selection, names, suite, how, training=training, reporter=reporter)
        else:
            scoring = score_selection(selection, heads, names, suite, how, reporter=reporter)
    scoring.results["run"] = current_run()
    for warning in scoring.results["warnings"]:
        print_line(f"warning: {warning}")
    for entry in scoring.results["skipped"]:
        print_line(f"left out {entry['head']}: {entry['reason']}")
    return scoring


def _uncertainty(method: str | None, confidence: float | None, resamples: int | None) -> Uncertainty | None:
    from featood.errors import UsageError

    given: dict[str, Any] = {} if confidence is None else {"level": confidence / 100}
    if resamples is not None:
        given["resamples"] = resamples
    if (given and method is None) or (resamples is not None and method == "delong"):
        option = (
            "--resamples goes with --intervals bootstrap"
            if resamples
            else "--confidence goes with --intervals"
        )
        raise UsageError(f"{option}, which was not given; add it")
    if method is None:
        return None
    from featood.pipeline.comparison import Uncertainty

    return Uncertainty(method, **given)


def print_results(scoring: Scoring, order: Order | None = None, form: str = "text") -> None:
    """Print the table, as wide as the terminal, and which heads differ if results have intervals; or a document."""
    import shutil

    from rich.console import Console

    from featood.report import Order, comparison_lines, results_document, results_table

    results, order = scoring.results, order or Order()
    if form != "text":
        click.echo(results_document(results, form, order), nl=False)
        return
    width = shutil.get_terminal_size((100, 24)).columns
    console = Console(width=width, highlight=False, markup=False, emoji=False)
    console.print(results_table(results, width, order))
    for line in comparison_lines(results):
        console.print(line)


def save_report(
    scoring: Scoring,
    path: str,
    data_dir: str | None = None,
    thumbnails: bool = True,
    umap: bool | None = None,
) -> None:
    """Write the HTML page and print its path."""
    import datetime
    import functools
    from importlib.util import find_spec

    from featood.pipeline.network_pictures import network_pictures
    from featood.pipeline.thumbnails import thumbnails as read_thumbnails
    from featood.report import write_report

    date = datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    # a folder of compiled code that an uninstallation has left has no origin
    by_umap = getattr(find_spec("umap"), "origin", None) is not None if umap is None else umap
    if by_umap and umap is None:
        print_line("the features are also mapped by UMAP, in half a minute (--no-umap omits it)")
    with TerminalReporter() as reporter, reporter.working("drawing the report"):
        write_report(
            path, scoring.results, scoring.scores, sets=scoring.sets, predictions=scoring.predictions,
            thumbnails=functools.partial(read_thumbnails, data_dir=data_dir) if thumbnails else None,
            umap=by_umap, maps=scoring.maps, date=date,
            pictures=network_pictures(next(iter(scoring.sets.values()))) if scoring.sets else None,
        )  # fmt: skip
    print_line(f"report: {path}")
