"""Shared by the commands of ``featood evaluate``: options and tables."""

from __future__ import annotations

__all__ = ["moments", "print_failures", "print_metric", "protocol", "set_names"]

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from featood.cli.common import (
    Place,
    cache_option,
    code_option,
    data_dir_option,
    dataset_option,
    quiet_downloads,
    split_names,
    table,
)
from featood.cli.completion import backbones_in_cache, outlier_sets, suites
from featood.reporter import print_line

if TYPE_CHECKING:
    from featood.pipeline.protocols.runs import Failure


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


def set_names(groups: Sequence[str]) -> list[str]:
    """Return the names of comma-separated lists."""
    return [name for group in groups for name in split_names(group)]


def print_failures(failed: Sequence[Failure], folder: Path) -> None:
    """Print the runs that failed, and where the files are."""
    for run, reason in failed:
        print_line(f"{run} failed and is left out: {reason}")
    print_line(f"files: {folder}")


def print_metric(
    rows: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    metric: str,
    scale: float = 100.0,
) -> None:
    """Print rows that have the same `names` as one line, with the metric of each out-of-distribution set."""
    sets = list(dict.fromkeys(row["ood"] for row in rows))
    lines: dict[tuple[Any, ...], dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        lines.setdefault(tuple(row[name] for name in names), {})[row["ood"]] = row

    body = [
        [*line, *(moments(found[name], metric, scale) if name in found else "" for name in sets)]
        for line, found in lines.items()
    ]
    table([*names, *sets], body)
    print_line(f"{', '.join(sets)}: {metric.upper()}; in percent, mean ± standard error over the runs")


def moments(row: Mapping[str, Any], metric: str, scale: float = 100.0, digits: int = 2) -> str:
    """Return mean and standard error; the latter is missing for one run."""
    mean, error = scale * row[metric], row.get(f"{metric}_se")
    return f"{mean:.{digits}f}" if error is None else f"{mean:.{digits}f} ± {scale * error:.{digits}f}"
