"""``featood tune HEAD``: a grid of options, tried on validation rows."""

from __future__ import annotations

__all__ = ["tune"]

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
    table,
)
from featood.cli.completion import head_names, outlier_sets
from featood.cli.options import parse_grid
from featood.cli.runs import current_run, pin, repeatable, write_run_option
from featood.reporter import TerminalReporter

if TYPE_CHECKING:
    from featood.pipeline.tuning import Tuning


@click.command()
@click.argument("head", shell_complete=head_names)
@click.option(
    "--grid",
    "texts",
    multiple=True,
    required=True,
    metavar="OPTION=VALUE,...",
    help="Values of one option, such as k=10,50,200 (a list's parts joined by '+'); may be repeated.",
)
@click.option(
    "--validation-ood",
    required=True,
    shell_complete=outlier_sets,
    help="Out-of-distribution set for choosing the options.",
)
@click.option(
    "--metric", default="auroc", show_default=True, help="Metric to optimise, by its name in the results."
)
@click.option(
    "--test-ood",
    multiple=True,
    shell_complete=outlier_sets,
    help="Set to report results on; may be repeated or comma-separated.",
)
@click.option("--preset", help="Published settings to start from (default: chosen by the kind of network).")
@click.option("--split", default="", help="Split to fit on (default: train).")
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    show_default=True,
    help="Seed for holding out rows if there is no validation split.",
)
@click.option("--out", type=Place(file_okay=False), help="Folder of the fitted head (default: in the cache).")
@click.option(
    "--overwrite", is_flag=True, help="Replace a head of this name that was fitted with other settings."
)
@click.option(
    "--json",
    "json_path",
    type=Place(dir_okay=False, allow_dash=True),
    help="Write all points as JSON ('-': standard output).",
)
@backbone_option
@dataset_option
@code_option
@head_file_option
@data_dir_option
@cache_option
@write_run_option
@quiet_downloads
@repeatable
def tune(
    head: str, texts: tuple[str, ...], validation_ood: str, metric: str, test_ood: tuple[str, ...], seed: int,
    json_path: str | None, backbone: str, dataset: str, data_dir: str | None, cache_root: str, code: tuple[str, ...],
    **plan: Any,
) -> None:  # fmt: skip
    """Choose a head's options on a validation set, then fit it with the best and save it.

    Fits on training rows, validates on the val split (else on a tenth of the training rows, held out) and on
    the set of --validation-ood, and never reads the test split. The head remembers on which set it was tuned:
    featood score refuses to test it there, and marks its other results as OOD-validated.

    Example: featood tune knn --grid k=10,50,200 --grid space=none,l2 --validation-ood textures
    """
    from featood.heads import head_entry
    from featood.pipeline.fitting import FitPlan
    from featood.pipeline.selection import select
    from featood.pipeline.tuning import TunePlan, tune_head
    from featood.report import write_json

    grid = parse_grid(head, head_entry(head).options, texts)
    tested = [name for group in test_ood for name in split_names(group)]
    selection = select(cache_of(cache_root, backbone, code), backbone, dataset, data_dir)
    pin(backbone=selection.backbone, dataset=selection.dataset)
    on = TunePlan(validation_ood, metric, tested, seed)
    with TerminalReporter() as reporter:
        tuning = tune_head(selection, head, grid, on, FitPlan(**plan), reporter=reporter)
    if json_path != "-":
        print_points(tuning, list(grid), metric)
        click.echo(f"{head}: saved in {tuning.folder}")
    if json_path:
        rows = [row.as_json() for row in tuning.rows]
        chosen = {
            "head": head,
            **tuning.seen.as_json(),
            "best": tuning.best.options,
            "rows": rows,
            "run": current_run(),
        }
        write_json(json_path, chosen)


def print_points(tuning: Tuning, options: list[str], metric: str) -> None:
    """Print one line a point, the best of them marked."""
    rows = []
    for row in tuning.rows:
        result = row.error or f"{100 * row.metrics[metric]:.2f}{' *' if row is tuning.best else ''}"
        seconds = "-" if row.fit_s is None else row.fit_s
        rows.append((*(row.options[name] for name in options), seconds, result))
    table((*options, "fit s", f"{metric} %"), rows)
