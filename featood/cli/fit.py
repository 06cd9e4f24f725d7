"""``featood fit NAME``: one subcommand per head, generated from its options."""

from __future__ import annotations

__all__ = ["fit"]

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import rich_click as click
from click.core import ParameterSource

from featood.cli.common import (
    Place,
    backbone_option,
    cache_of,
    cache_option,
    code_option,
    data_dir_option,
    dataset_option,
    head_file_option,
    parameter_of,
    reporter_of,
    table,
)
from featood.cli.completion import outlier_sets
from featood.cli.engines import engine_of, engine_options
from featood.cli.pages import PageContext, PageFormatter
from featood.cli.runs import pin, repeatable, write_run_option
from featood.names import label_of

if TYPE_CHECKING:
    from featood.heads.index import Entry
    from featood.pipeline.variants import Variant


PLAN = (
    "preset", "split", "limit", "rows_share", "rows_per_class", "rows_seed", "outliers", "validate_on", "out",
    "overwrite",
)  # fmt: skip
"""Parameters of the fit itself; all others are options of the head."""


class HeadCommands(click.Group):
    """Provides every registered head as a subcommand; only the head that runs is imported."""

    context_class = PageContext

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all heads."""
        from featood.heads import list_heads

        return list(list_heads())

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Register the heads of files named after the head, too, before the head is looked up."""
        from featood.heads.registry import register_file

        for number, text in enumerate(args):
            flag, joined, path = text.partition("=")
            if flag == "--head-file" and (joined or args[number + 1 :]):
                register_file(path if joined else args[number + 1])
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: click.Context, name: str) -> click.Command:
        """Make the command of one head."""
        from featood.heads import head_entry

        return HeadCommand(head_entry(name))

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the names of the heads by family; one line per head would fill several screens."""
        from featood.heads import heads_by_family

        assert isinstance(formatter, PageFormatter)
        families = {
            family: ", ".join(card.name for card in cards) for family, cards in heads_by_family().items()
        }
        formatter.write_lists({"Heads": list(families.items())})
        formatter.write_paragraph()
        formatter.write_text(
            "featood heads lists the heads with their titles, featood fit HEAD --help the options of a head."
        )


@click.group(cls=HeadCommands, subcommand_metavar="HEAD [OPTIONS]...")
@head_file_option
def fit() -> None:
    """Fit a head on cached features and save it.

    Uses the newest extraction unless --backbone or --dataset selects another.

    Example: featood fit heat-gmm
    """


class HeadCommand(click.Command):
    """``featood fit NAME``. Its parameters are created on first use, as the list of all heads does not need them."""

    context_class = PageContext

    def __init__(self, entry: Entry) -> None:
        card = entry.card
        caution = f"Caution: {card.caution}.\n\n" if card.caution else ""
        text = f"{entry.doc}\n\n{caution}{card.paper}, {card.year}. {card.url}"

        @repeatable
        def run(**values: Any) -> None:
            _run(card.name, **values)

        super().__init__(name=card.name, callback=run, help=text, short_help=card.title)
        del self.params
        self._entry = entry

    @functools.cached_property
    def params(self) -> list[click.Parameter]:  # type: ignore[override]
        """Options of the head, then those of every fit."""
        return _parameters(self._entry)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options of the head and the common options in separate lists."""
        assert isinstance(formatter, PageFormatter)
        own = {"preset", *(option.name for option in self._entry.options)}
        parts = {
            f"Options of {self.name}": [param for param in self.params if param.name in own],
            "Options of every fit": [param for param in self.get_params(ctx) if param.name not in own],
        }
        records = {
            title: list(filter(None, (param.get_help_record(ctx) for param in params)))
            for title, params in parts.items()
        }
        formatter.write_lists(records)


def _run(
    head_name: str, cache_root: str, backbone: str, dataset: str, code: tuple[str, ...], repeat: int,
    sweep: tuple[str, ...], tensorboard: str | None, engine: str, ray_address: str, ray_gpus: float | None,
    **values: Any,
) -> None:  # fmt: skip
    from featood.pipeline.fitting import FitPlan, fit_head
    from featood.pipeline.selection import select

    context = click.get_current_context()
    assert context is not None
    data_dir, plan = values.pop("data_dir"), FitPlan(**{key: values.pop(key, None) for key in PLAN})
    given = {
        name: value
        for name, value in values.items()
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT
    }
    with engine_of(engine, ray_address, ray_gpus) as place, reporter_of(tensorboard) as reporter:
        selection = select(cache_of(cache_root, backbone, code), backbone, dataset, data_dir)
        selection = dataclasses.replace(selection, engine=place)
        pin(backbone=selection.backbone, dataset=selection.dataset)
        if repeat > 1 or sweep:
            from featood.cli.options import parse_grid
            from featood.heads import head_entry
            from featood.pipeline.variants import fit_variants

            grid = parse_grid(head_name, head_entry(head_name).options, sweep)
            variants = fit_variants(
                selection, head_name, given, plan, grid=grid, repeat=repeat, reporter=reporter
            )
            print_variants(variants)
            return
        head, folder = fit_head(selection, head_name, given, plan, reporter=reporter)
    label = head_name if plan.out else label_of(folder.name)
    click.echo(f"{label}: fitted in {head.record.fit_seconds:.1f} s, saved in {folder}")


def _parameters(entry: Entry) -> list[click.Parameter]:
    params: list[click.Parameter] = [parameter_of(option) for option in entry.options]
    if entry.presets:
        chosen = " (default: chosen by the kind of network)" if "cifar10" in entry.presets else ""
        help_ = f"Published settings to start from{chosen}."
        params.insert(0, click.Option(["--preset"], type=click.Choice(list(entry.presets)), help=help_))
    params += [
        click.Option(["--split"], default="", help="Split to fit on (default: train)."),
        click.Option(
            ["--limit"],
            type=click.IntRange(0),
            default=0,
            help="For a quick try: fit on only so many rows, evenly spaced; the head is stored as HEAD@limit=N.",
        ),
        click.Option(
            ["--rows-share"],
            type=click.FloatRange(0, 1, min_open=True),
            default=1.0,
            help="For studies with less data: fit on a share of the rows, drawn at random; the head is stored as "
            "HEAD@rows_share=SHARE.",
        ),
        click.Option(
            ["--rows-per-class"],
            type=click.IntRange(0),
            default=0,
            help="Fit on only so many rows of each class, drawn at random (0: all).",
        ),
        click.Option(
            ["--rows-seed"], type=click.IntRange(0), default=0, help="Seed of the draw of rows to fit on."
        ),
        click.Option(
            ["--outliers"],
            default="",
            shell_complete=outlier_sets,
            help="Out-of-distribution set to train on, or comma-separated .safetensors files of embeddings, for heads "
            "that learn from outliers.",
        ),
        click.Option(
            ["--validate-on"],
            default="",
            shell_complete=outlier_sets,
            help="Out-of-distribution set for selecting the best state of a training (default: by the held-out loss).",
        ),
        click.Option(
            ["--repeat"],
            type=click.IntRange(1),
            default=1,
            help="Number of seeds to fit with; results are then shown as mean and standard error.",
        ),
        click.Option(
            ["--sweep"],
            multiple=True,
            metavar="OPTION=VALUE,...",
            help="Fit for each value of an option, such as lr=0.01,0.001; may be repeated for a grid.",
        ),
        click.Option(
            ["--tensorboard"],
            type=click.Path(file_okay=False),
            help="Folder for TensorBoard logs of the training losses.",
        ),
        click.Option(
            ["--out"],
            type=Place(file_okay=False),
            help="Folder of the fitted head (default: in the cache).",
        ),
        click.Option(
            ["--overwrite"],
            is_flag=True,
            help="Fit again, and replace a head of this name with other settings or rows (default: keep both).",
        ),
    ]
    shared: Any = click.Command(name=None)
    for add in (
        write_run_option,
        engine_options,
        data_dir_option,
        cache_option,
        head_file_option,
        code_option,
        dataset_option,
        backbone_option,
    ):
        shared = add(shared)
    return params + shared.params


def print_variants(variants: Sequence[Variant]) -> None:
    """Print one line per grid point with its losses over the seeds; the lowest held-out loss is marked."""
    from featood.metrics import mean_and_error

    def figure(members: list[Variant], key: str) -> tuple[float, float]:
        values = [found for one in members if (found := one.head.record.training.get(key)) is not None]
        return mean_and_error(values) if values else (math.nan, math.nan)

    def text(mean: float, error: float) -> str:
        return "-" if math.isnan(mean) else f"{mean:.5g}" + ("" if math.isnan(error) else f" ±{error:.2g}")

    groups: dict[str, list[Variant]] = {}
    for variant in variants:
        groups.setdefault(variant.group, []).append(variant)
    held = {name: figure(members, "validation") for name, members in groups.items()}
    lowest = min((mean for mean, _ in held.values() if not math.isnan(mean)), default=None)
    rows = []
    for name, members in groups.items():
        mark = " *" if held[name][0] == lowest and len(groups) > 1 else ""
        seconds = math.fsum(one.head.record.fit_seconds or 0.0 for one in members)
        fallen = sum(one.head.record.training.get("diverged", False) for one in members)
        figures = text(*held[name]) + mark, text(*figure(members, "loss")), f"{seconds:.1f}", fallen or "-"
        rows.append((name, len(members), *figures))
    table(("head", "fits", "held-out loss", "last loss", "s", "diverged"), rows)
    click.echo(f"saved in {variants[0].folder.parent}; score them with --head '{variants[0].group}'")
