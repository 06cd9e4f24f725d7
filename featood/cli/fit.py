"""``featood fit NAME``: one subcommand a head, made from the fields of its class."""

from __future__ import annotations

__all__ = ["fit", "option_kind"]

import dataclasses
import types
import typing
from typing import Any

import rich_click as click
from click.core import ParameterSource

from featood.cli.common import (
    backbone_option,
    cache_option,
    data_dir_option,
    dataset_option,
    progress_bar,
    say,
)


class HeadCommands(click.RichGroup):
    """Offers every registered head as a subcommand; only the one asked for is imported."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all heads."""
        from featood.heads import list_heads

        return list(list_heads())

    def get_command(self, ctx: click.Context, name: str) -> click.Command:
        """Make the command of one head."""
        from featood.heads import head_class

        return _command(head_class(name))


@click.group(cls=HeadCommands, subcommand_metavar="HEAD [OPTIONS]...")
def fit() -> None:
    """Fit a head on cached features and save it.

    Acts on the newest extraction unless told otherwise.

    Example: featood fit heat-gmm
    """


def _command(cls: type) -> click.Command:
    card = cls.card  # type: ignore[attr-defined]
    presets = cls.presets  # type: ignore[attr-defined]
    hints = typing.get_type_hints(cls)
    fields = [field for field in dataclasses.fields(cls) if field.init]

    def run(
        cache_root: str, backbone: str, dataset: str, split: str, out: str | None, outliers: str,
        data_dir: str | None, **values: Any,
    ) -> None:  # fmt: skip
        from featood.cache import open_cache
        from featood.engine.fitting import fit_head
        from featood.engine.selection import select

        preset = values.pop("preset", None)
        context = click.get_current_context()
        assert context is not None
        given = {
            name: value
            for name, value in values.items()
            if context.get_parameter_source(name) is not ParameterSource.DEFAULT
        }
        selection = select(open_cache(cache_root), backbone, dataset)
        with progress_bar() as bar:

            def progress(step: int, total: int, **figures: float) -> None:
                bar(f"training {card.name}", step, total, **figures)

            head, folder = fit_head(
                selection, card.name, given, preset, split, out, progress, say,
                outliers=outliers, data_dir=data_dir,
            )  # fmt: skip
        click.echo(f"{card.name}: fitted in {head.meta['fit_seconds']:.1f} s, saved in {folder}")

    params: list[click.Parameter] = [_parameter(field, hints[field.name]) for field in fields]
    if presets:
        help_ = "Published settings to start from (default: by the number of classes)."
        params.insert(0, click.Option(["--preset"], type=click.Choice(list(presets)), help=help_))
    params += [
        click.Option(["--split"], default="", help="Split to fit on (default: train)."),
        click.Option(
            ["--outliers"], default="", help="Out-of-distribution set to learn from, for heads that can."
        ),
        click.Option(
            ["--out"],
            type=click.Path(file_okay=False),
            help="Folder of the fitted head (default: in the cache).",
        ),
    ]
    text = f"{(cls.__doc__ or '').strip()}\n\n{card.paper}, {card.year}. {card.url}"
    command = click.RichCommand(name=card.name, callback=run, params=params, help=text, short_help=card.title)
    for add in (data_dir_option, cache_option, dataset_option, backbone_option):
        command = add(command)
    return command


def _parameter(field: dataclasses.Field, hint: Any) -> click.Option:
    flag = "--" + field.name.replace("_", "-")
    meta = field.metadata
    default: Any = field.default
    kind, many = option_kind(hint)
    if kind is bool:
        return click.Option(
            [f"{flag}/--no-{flag[2:]}"], default=default, show_default=True, help=meta["help"]
        )
    if meta.get("choices"):
        type_: Any = click.Choice(meta["choices"])
    elif many:
        return click.Option([flag], default=",".join(map(str, default)), show_default=bool(default),
                            callback=_splitter(kind), help=f"{meta['help']} (comma-separated)")  # fmt: skip
    else:
        type_ = kind
    return click.Option(
        [flag], type=type_, default=default, show_default=default not in ("", None), help=meta["help"]
    )


def option_kind(hint: Any) -> tuple[type, bool]:
    """Return the plain type of an annotation, and whether it is a tuple of it."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
    if typing.get_origin(hint) is tuple:
        return typing.get_args(hint)[0], True
    return (hint if hint in (bool, int, float, str) else str), False


def _splitter(kind: type) -> Any:
    def split(_: click.Context, __: click.Parameter, value: str) -> tuple:
        try:
            return tuple(kind(part) for part in filter(None, value.split(",")))
        except ValueError:
            raise click.BadParameter(f"'{value}' is not a comma-separated list of {kind.__name__}") from None

    return split
