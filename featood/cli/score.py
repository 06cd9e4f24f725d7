"""``featood score``."""

from __future__ import annotations

__all__ = ["print_results", "score"]

from typing import TYPE_CHECKING, Any

import rich_click as click

from featood.cli.common import Place, quiet_downloads
from featood.cli.report import save_report
from featood.cli.runs import repeatable, write_run_option
from featood.cli.scoring import run_scoring, what_to_score, what_to_show
from featood.reporter import print_line

if TYPE_CHECKING:
    from featood.pipeline.scoring import Scoring
    from featood.report import Order


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
    scoring = run_scoring(**what)
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
