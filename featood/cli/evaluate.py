"""``featood evaluate``."""

from __future__ import annotations

__all__ = ["evaluate"]

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import rich_click as click

from featood.cli.common import (
    Place,
    cache_of,
    cache_option,
    code_option,
    data_dir_option,
    dataset_option,
    quiet_downloads,
    split_names,
    table,
)
from featood.cli.completion import backbones_in_cache, outlier_sets, suites
from featood.reporter import TerminalReporter, print_line


@click.group()
def evaluate() -> None:
    """Repeat a published evaluation over several networks and several runs of each.

    Every protocol writes the files of the original, and prints its table. The networks are backbones in the cache, by
    name or pattern: NAME=BACKBONE,BACKBONE or plain-*.
    """


def protocol(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that the protocols share."""
    for add in (cache_option, data_dir_option, code_option, dataset_option):
        command = add(command)
    command = click.option(
        "--suite",
        "suite",
        multiple=True,
        shell_complete=suites,
        help="A named list of sets, such as cifar10-near.",
    )(command)
    command = click.option(
        "--ood", "ood", multiple=True, shell_complete=outlier_sets,
        help="Out-of-distribution set; may be repeated or comma-separated.",
    )(command)  # fmt: skip
    command = click.option(
        "--out",
        type=Place(file_okay=False),
        help="Folder of the files to write (default: evaluated/PROTOCOL).",
    )(command)
    argument = click.argument("networks", nargs=-1, required=True, shell_complete=backbones_in_cache)
    return quiet_downloads(argument(command))


@evaluate.command()
@protocol
@click.option("--kind", "kinds", multiple=True, type=click.Choice(["softmax", "gmm", "ensemble"]),
              help="Kind of model; may be repeated (default: all).")  # fmt: skip
@click.option(
    "--members", type=click.IntRange(2), default=5, show_default=True, help="Networks of an ensemble."
)
@click.option(
    "--bins", type=click.IntRange(1), default=15, show_default=True, help="Bins of the calibration error."
)
@click.option(
    "--validation",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.1,
    show_default=True,
    help="Share of training rows for the temperature, where those that a training held out are unknown.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the choice of these rows.")
def ddu(
    networks: tuple[str, ...], cache_root: str, code: tuple[str, ...], ood: tuple[str, ...], suite: tuple[str, ...],
    out: str | None, kinds: tuple[str, ...], **settings: Any,
) -> None:  # fmt: skip
    """Deep Deterministic Uncertainty (Mukhoti et al., CVPR 2023): softmax, density of the features, ensembles.

    Example: featood evaluate ddu 'plain-*' 'sn-mod-*' --ood mnist --ood notmnist --members 3
    """
    from pathlib import Path

    from featood.pipeline.protocols.ddu import DDUPlan, ddu_rows, evaluate_ddu
    from featood.report import write_json, write_rows

    plan = DDUPlan(
        outliers=[name for group in ood for name in split_names(group)],
        suites=suite,
        kinds=kinds,
        **settings,
    )
    with TerminalReporter() as reporter:
        evaluations = evaluate_ddu(cache_of(cache_root, code=code), networks, plan, reporter=reporter)
    folder = Path(out or "evaluated/ddu")
    for evaluation in evaluations:
        write_json(folder / evaluation.file, evaluation.results)
    rows = ddu_rows(evaluations)
    write_rows(folder / "table.csv", rows)
    _print(rows, ("network", "score", "runs"), ("accuracy", "ece"), "auroc")
    for row in {(row["network"], row["kind"]): row for row in rows if row["failed"]}.values():
        print_line(f"{row['network']}, {row['kind']}: {row['failed']} runs failed and are left out")
    print_line(f"files: {folder}")


def _print(
    rows: Sequence[Mapping[str, Any]], names: Sequence[str], shared: Sequence[str], metric: str
) -> None:
    """Print rows that have the same `names` as one line, with `metric` of each out-of-distribution set."""
    sets = list(dict.fromkeys(row["ood"] for row in rows))
    lines: dict[tuple[Any, ...], dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        lines.setdefault(tuple(row[name] for name in names), {})[row["ood"]] = row
    body = []
    for line, found in lines.items():
        first = next(iter(found.values()))
        values = [_moments(first, name) for name in shared]
        body.append(
            [*line, *values, *(_moments(found[name], metric) if name in found else "" for name in sets)]
        )
    table([*names, *shared, *sets], body)
    print_line(f"{', '.join(sets)}: {metric.upper()}; in percent, mean ± standard error over the runs")


def _moments(row: Mapping[str, Any], metric: str) -> str:
    """Return mean and standard error in percent; the latter is missing for one run."""
    mean, error = row[metric], row.get(f"{metric}_se")
    return f"{100 * mean:.2f}" if error is None else f"{100 * mean:.2f} ± {100 * error:.2f}"
