"""Shared by the commands: options, and printing of lines and tables."""

from __future__ import annotations

__all__ = [
    "HEAD_FILES",
    "SHARE",
    "CacheRoot",
    "Place",
    "backbone_option",
    "cache_of",
    "cache_option",
    "code_option",
    "data_dir_option",
    "dataset_option",
    "detector_code_option",
    "emit_json",
    "head_file_option",
    "names",
    "numbers",
    "parameter_of",
    "quiet_downloads",
    "reporter_of",
    "split_names",
    "table",
]

import functools
import json
import os
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import rich_click as click

from featood.cli.completion import backbones_in_cache, datasets_in_cache
from featood.names import local_path

if TYPE_CHECKING:
    from featood.cache import FeatureCache
    from featood.options import OptionEntry
    from featood.reporter import Reporter


HEAD_FILES = "featood.head_files"
"""Key of click's context: files with heads that the command line names."""
GAP = 2
"""Spaces between the columns of a table."""
LAST = 24
"""Least width of the last column of a table, if its text is that wide."""


class Place(click.Path):
    """A local path; URLs such as s3://... are rejected before any work is done."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path."""
        local_path(value)
        return super().convert(value, param, ctx)


class CacheRoot(click.Path):
    """A local path, or a URL of object storage."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path or the URL, after checking that it can be opened."""
        if "://" not in value:
            return super().convert(value, param, ctx)
        from featood.objects import location

        return str(location(value))


cache_option = click.option(
    "--cache", "cache_root", default="feature_cache", envvar="FEATOOD_CACHE", show_default=True, show_envvar=True,
    type=CacheRoot(file_okay=False),
    help="Root folder of the feature cache, or a URL of object storage such as s3://bucket/prefix.",
)  # fmt: skip
data_dir_option = click.option(
    "--data-dir", envvar="FEATOOD_DATA", show_envvar=True, type=Place(file_okay=False),
    help="Folder of the image datasets (default: ./data, or the folder used by the extraction).",
)  # fmt: skip
backbone_option = click.option(
    "--backbone",
    default="",
    shell_complete=backbones_in_cache,
    help="Backbone whose features to use (default: the newest extraction's).",
)
dataset_option = click.option(
    "--dataset",
    default="",
    shell_complete=datasets_in_cache,
    help="In-distribution dataset (default: the newest extraction's).",
)
SHARE = click.FloatRange(0, 1, min_open=True, max_open=True)
detector_code_option = click.option(
    "--code", multiple=True, metavar="python:MODULE:CALLABLE",
    help="Code that may be run, if the network is python:...; may be repeated.",
)  # fmt: skip
code_option = click.option(
    "--code", multiple=True, metavar="python:MODULE:CALLABLE",
    help="Code that may be run to extract further sets, if the backbone is python:...; may be repeated.",
)  # fmt: skip


def _register_heads(context: click.Context, _: click.Parameter, paths: tuple[str, ...]) -> None:
    from featood.heads.registry import register_file

    for path in paths:
        register_file(path)
        context.meta.setdefault(HEAD_FILES, []).append(path)


head_file_option = click.option(
    "--head-file", multiple=True, type=Place(exists=True, dir_okay=False), is_eager=True, expose_value=False,
    callback=_register_heads, help="Python file with heads to use, which is run; may be repeated.",
)  # fmt: skip


def cache_of(root: str, backbone: str = "", code: Sequence[str] = ()) -> FeatureCache:
    """Open the cache, allowing the code given on the command line: by ``--code``, or as the backbone."""
    from featood.cache import open_cache

    return open_cache(root, [*code, *([backbone] if backbone.startswith("python:") else [])])


def names(_: click.Context, __: click.Parameter, value: str | None) -> tuple[str, ...]:
    """Split a comma-separated list of names, as an option's callback."""
    return tuple(name for part in (value or "").split(",") if (name := part.strip()))


def numbers(_: click.Context, __: click.Parameter, value: str | None) -> tuple[float, ...] | None:
    """Parse a comma-separated list of numbers, as an option's callback."""
    if value is None:
        return None
    try:
        return tuple(float(part) for part in value.split(","))
    except ValueError:
        raise click.BadParameter(f"'{value}' is not a comma-separated list of numbers") from None


def split_names(group: str) -> list[str]:
    """Split at commas, except those inside a class list such as ``cifar10:0,3,7-9``."""
    names: list[str] = []
    for part in filter(None, group.split(",")):
        follows = names and ":" in names[-1] and (part[0].isdigit() or "=" in part)
        if follows:
            names[-1] += f",{part}"
        else:
            names.append(part)
    return names


def emit_json(value: Any) -> None:
    """Print a value as JSON to standard output."""
    click.echo(json.dumps(value, indent=1, default=str))


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table that fits the terminal without splitting a word.

    The last column is wrapped at spaces, and starts on a line of its own where a word of it is too long; so does all
    but the first column if the columns are too wide.
    """
    import shutil

    from rich.cells import cell_len

    width = shutil.get_terminal_size((100, 24)).columns
    lines = [[str(cell) for cell in cells] for cells in (columns, *rows)]
    *widths, last = (max(map(cell_len, column)) for column in zip(*lines, strict=True))
    first = [widths.pop(0)] if sum(widths) + GAP * len(widths) + min(last, LAST) > width else []
    start = GAP * len(first) + sum(widths) + GAP * len(widths)
    for number, cells in enumerate(lines):
        if first:
            click.echo(cells[0])
        shown = zip(cells[len(first) : -1], widths, strict=True)
        before = " " * (GAP * len(first)) + "".join(
            cell + " " * (size + GAP - cell_len(cell)) for cell, size in shown
        )
        if any(start + cell_len(word) > width for word in cells[-1].split()):
            click.echo(before.rstrip())
            before = " " * 2 * GAP
        click.echo(click.wrap_text(cells[-1] or "-", width, before, " " * len(before)))
        if not number:
            click.echo("─" * min(width, start + last))


def quiet_downloads(function: Callable[..., Any]) -> Callable[..., Any]:
    """Suppress the progress bars of libraries while `function` runs."""

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
        return function(*args, **kwargs)

    return wrapped


def reporter_of(tensorboard: str | None) -> Reporter:
    """Return a reporter to the terminal, and to a folder for TensorBoard if one is given."""
    from featood.reporter import TerminalReporter

    if tensorboard is None:
        return TerminalReporter()
    from featood.pipeline.tensorboard import TensorBoardReporter

    return TensorBoardReporter(tensorboard, TerminalReporter())


def parameter_of(option: OptionEntry) -> click.Option:
    """Return the command-line option of a declared one."""
    flag = "--" + option.name.replace("_", "-")
    default, kind = option.default, option.type
    if kind is bool:
        return click.Option([f"{flag}/--no-{flag[2:]}"], default=default, show_default=True, help=option.help)
    if option.many:
        return click.Option([flag], default=",".join(map(str, default)), show_default=bool(default),
                            callback=_splitter(kind), help=f"{option.help} (comma-separated)")  # fmt: skip
    type_: Any = click.Choice(option.choices) if option.choices else kind
    shown = default not in ("", None)
    return click.Option([flag], type=type_, default=default, show_default=shown, help=option.help)


def _splitter(kind: type) -> Any:
    def split(_: click.Context, __: click.Parameter, value: str) -> tuple[Any, ...]:
        try:
            return tuple(kind(part) for part in filter(None, value.split(",")))
        except ValueError:
            raise click.BadParameter(f"'{value}' is not a comma-separated list of {kind.__name__}") from None

    return split
