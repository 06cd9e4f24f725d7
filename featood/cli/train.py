"""``featood train``."""

from __future__ import annotations

__all__ = ["train"]

import functools
import math
from typing import TYPE_CHECKING, Any

import rich_click as click
from click.core import ParameterSource

from featood.cli.common import data_dir_option, emit_json, numbers, parameter_of, reporter_of, table
from featood.cli.completion import image_sets
from featood.cli.options import parse_pairs
from featood.cli.pages import PageContext, PageFormatter, card_command
from featood.cli.runs import repeatable, write_run_option
from featood.errors import UsageError
from featood.reporter import SILENT, Reporter

if TYPE_CHECKING:
    from featood.extractors.models import Model
    from featood.extractors.trainer import TrainOptions
    from featood.pipeline.train_plan import TrainPlan


class ModelCommands(click.Group):
    """Provides every model as a subcommand."""

    context_class = PageContext

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take the model of a recipe where no model is named."""
        for number, text in enumerate(args if args[:1] and args[0].startswith("-") else []):
            flag, joined, name = text.partition("=")
            if flag == "--recipe" and (joined or args[number + 1 :]):
                from featood.extractors.trainer import find_recipe

                args = [find_recipe(name if joined else args[number + 1]).model, *args]
                break
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all models."""
        from featood.extractors.models import list_models

        return list(list_models())

    def get_command(self, ctx: click.Context, name: str) -> click.Command:
        """Make the command of one model."""
        from featood.extractors.models import model_class

        cls = model_class(name)
        return card_command(
            cls, functools.partial(_options, cls), repeatable(functools.partial(_run, cls.card.name))
        )

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the models with their titles, and the recipes with their sources."""
        from featood.extractors.models import list_models
        from featood.extractors.trainer import RECIPES

        assert isinstance(formatter, PageFormatter)
        titles = [(name, f"{cls.card.title} ({cls.card.year}).") for name, cls in list_models().items()]
        sources = [
            (name, f"{', '.join(dict.fromkeys((recipe.model, recipe.architecture)))}. {recipe.source}.")
            for name, recipe in RECIPES.items()
        ]
        formatter.write_lists({"Models": titles, "Recipes": sources})


@click.group(cls=ModelCommands, subcommand_metavar="[MODEL] [OPTIONS]...")
def train() -> None:
    """Train a network on images or texts, for extract --backbone FOLDER.

    Example: featood train cross-entropy --dataset cifar10 --arch cifar-resnet18 --augment crop,flip

    Example: featood train --recipe ddu-wrn --dataset cifar10

    Example: featood train cross-entropy --arch gru --dataset newsgroups20 --optimizer adam --lr 0.001
    """


def _options(model: type[Model]) -> dict[str, list[click.Parameter]]:
    from featood.extractors.trainer import TrainOptions
    from featood.options import options_of

    (data_dir,), (write_run,) = (
        add(click.Command(name=None)).params for add in (data_dir_option, write_run_option)
    )
    return {
        f"Options of {model.card.name}": [parameter_of(option) for option in options_of(model)],
        "What to train": [
            click.Option(["--recipe"], default="",
                         help="Published settings, listed by featood train --help; other options take precedence."),
            click.Option(["--arch"], default="",
                         help="Network: cifar-resnet18, wrn-28-10, tv:NAME, timm:NAME, ..., or gru for texts."),
            click.Option(["--arch-option"], multiple=True, metavar="NAME=VALUE",
                         help="Option of the network, such as dropout=0.3 or sn=true; may be repeated. "
                              "featood backbones NAME lists them."),
            click.Option(["--initial"], default="",
                         help="Weights to start from: folder of a trained network, file, or name of published ones."),
            click.Option(["--dataset"], required=True, shell_complete=image_sets,
                         help="Labelled images or texts to train on."),
            click.Option(["--split"], default="train", show_default=True, help="Their split."),
            click.Option(["--outliers"], default="", shell_complete=image_sets,
                         help="Images to train on as outliers: NAME or NAME/SPLIT."),
            click.Option(["--mixing-set"], default="", shell_complete=image_sets,
                         help="Images that --augment pixmix mixes in, such as fractals: NAME or NAME/SPLIT."),
            click.Option(["--strict"], is_flag=True, help="Stop at the first image that cannot be read."),
            click.Option(["--limit"], type=click.IntRange(0), default=0, help="Use only the first images of each set."),
            click.Option(["--image-size"], type=click.IntRange(0), default=0,
                         help="Side of the input in pixels (default: that of the dataset)."),
            click.Option(["--mean"], callback=numbers, help="Mean of each channel on [0, 1], comma-separated."),
            click.Option(["--std"], callback=numbers,
                         help="Standard deviation of each channel on [0, 1], comma-separated."),
            click.Option(["--max-length"], type=click.IntRange(1), default=256, show_default=True,
                         help="Number of words after which a text is cut off."),
            click.Option(["--vocabulary"], type=click.IntRange(1), default=10_000, show_default=True,
                         help="Largest number of different words of texts; all others count as one."),
            data_dir,
            click.Option(["--out"], default="", help="Folder to write (default: trained/ARCH-MODEL-DATASET-SEED)."),
            click.Option(["--overwrite"], is_flag=True, help="Replace a trained network in that folder."),
            click.Option(["--repeat"], type=click.IntRange(1), default=1,
                         help="Number of seeds to train with, from --seed on, each in a folder seed-K below --out."),
            click.Option(["--sweep"], multiple=True, metavar="OPTION=VALUE,...",
                         help="Train for each value of an option, such as lr=0.01,0.001; may be repeated for a grid."),
            click.Option(["--tensorboard"], type=click.Path(file_okay=False),
                         help="Folder for TensorBoard logs of the losses."),
            click.Option(["--json", "as_json"], is_flag=True, help="Print the summary as JSON."),
            write_run,
        ],
        "How to train": [
            parameter_of(option._replace(default=model.training.get(option.name, option.default)))
            for option in options_of(TrainOptions)
        ],
    }  # fmt: skip


def _run(
    name: str, recipe: str, arch: str, arch_option: tuple[str, ...], out: str, repeat: int, sweep: tuple[str, ...],
    tensorboard: str | None, as_json: bool, **values: Any,
) -> None:  # fmt: skip
    import dataclasses
    from pathlib import Path

    from featood.cache import slug
    from featood.extractors.models import model_class
    from featood.extractors.trainer import TrainOptions, held_out_figures, leads
    from featood.pipeline.train_plan import TrainPlan, architecture_of, plan_of_recipe
    from featood.pipeline.training import train_extractor

    own = model_class(name).own_network
    net = architecture_of(name, arch, parse_pairs(arch_option))
    if not net.name and not recipe:
        raise UsageError("name a network by --arch, or published settings by --recipe")
    folder = f"trained/{slug(recipe or (name if own else f'{arch}-{name}'))}-{slug(values['dataset'])}"
    folder = out or (folder if repeat > 1 or sweep else f"{folder}-{values['seed']}")
    what = {
        field.name: values.pop(field.name) for field in dataclasses.fields(TrainPlan) if field.name in values
    }
    typed = _typed(values) if recipe else values
    how = {
        field.name: typed.pop(field.name) for field in dataclasses.fields(TrainOptions) if field.name in typed
    }
    what |= {"model": name, "architecture": net, "options": typed}
    what["out"] = Path(folder)
    with reporter_of(tensorboard) if leads() else SILENT as reporter:
        if recipe:
            plan, options = plan_of_recipe(recipe, training=how, reporter=reporter, **what)
        else:
            plan, options = TrainPlan(**what), TrainOptions(**how)
        if sweep:
            _sweep(plan, options, sweep, repeat, reporter, as_json)
            return
        if repeat > 1:
            _repeat(plan, options, repeat, reporter, as_json)
            return
        summary = train_extractor(plan, options, reporter=reporter)
    if not leads():
        return
    if as_json:
        emit_json({"folder": folder, **summary})
        return
    held = ", ".join(["", *held_out_figures(summary)])
    click.echo(f"{summary['steps']} updates in {summary['seconds']:.0f} s{held}; saved in {folder}")


def _repeat(plan: TrainPlan, options: TrainOptions, repeat: int, reporter: Reporter, as_json: bool) -> None:
    """Train with several seeds, and print the mean and the standard error of the accuracy."""
    from featood.extractors.trainer import leads
    from featood.pipeline.repeated_training import train_repeated

    runs = train_repeated(plan, options, repeat, reporter=reporter)
    if not leads():
        return
    if as_json:
        emit_json({"folder": str(plan.out), "runs": runs.summaries, "failed": runs.failed, **runs.means})
        return
    for key, (mean, error) in runs.means.items():
        click.echo(f"{key.replace('_', ' ')}: {_figure(key, mean, error)} over {len(runs.summaries)} seeds")
    for seed, reason in runs.failed.items():
        click.echo(f"seed {seed} failed: {reason}")
    click.echo(f"{len(runs.summaries)} of {repeat} networks saved in {plan.out}")


def _sweep(
    plan: TrainPlan,
    options: TrainOptions,
    texts: tuple[str, ...],
    repeat: int,
    reporter: Reporter,
    as_json: bool,
) -> None:
    """Train for each point of a grid, and print a table of the figures."""
    from featood.cli.options import parse_grid
    from featood.extractors.models import model_class
    from featood.extractors.trainer import TrainOptions, leads
    from featood.options import options_of
    from featood.pipeline.swept_training import train_swept

    known = [*options_of(model_class(plan.model)), *options_of(TrainOptions)]
    found = train_swept(plan, options, parse_grid(plan.model, known, texts), repeat, reporter=reporter)
    if not leads():
        return
    if as_json:
        points = {
            label: {"runs": runs.summaries, "failed": runs.failed, **runs.means}
            for label, runs in found.items()
        }
        emit_json({"folder": str(plan.out), "points": points})
        return
    keys = list(dict.fromkeys(key for runs in found.values() for key in runs.means))
    rows = []
    for label, runs in found.items():
        figures = [_figure(key, *runs.means[key]) if key in runs.means else "-" for key in keys]
        fallen = sum(bool(summary["diverged"]) for summary in runs.summaries.values())
        rows.append((label, len(runs.summaries), *figures, fallen or "-", len(runs.failed) or "-"))
    titles = [key.replace("_", " ") for key in keys]
    table(("network", "seeds", *titles, "diverged", "failed"), rows)
    click.echo(f"saved in {plan.out}")


def _figure(key: str, mean: float, error: float) -> str:
    factor, unit = (100, " %") if key == "validation_accuracy" else (1, "")
    spread = "" if math.isnan(error) else f" ±{factor * error:.2g}"
    return f"{factor * mean:.4g}{spread}{unit}"


def _typed(values: dict[str, Any]) -> dict[str, Any]:
    """Return the options that were typed."""
    context = click.get_current_context()
    assert context is not None
    return {
        key: value
        for key, value in values.items()
        if context.get_parameter_source(key) is not ParameterSource.DEFAULT
    }
