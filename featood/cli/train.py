"""``featood train``."""

from __future__ import annotations

__all__ = ["train"]

import functools
import inspect
from typing import TYPE_CHECKING, Any

import rich_click as click

from featood.cli.common import data_dir_option, emit_json
from featood.cli.completion import image_sets
from featood.cli.options import parameter_of
from featood.cli.pages import PageContext, PageFormatter
from featood.errors import UsageError
from featood.reporter import TerminalReporter

if TYPE_CHECKING:
    from featood.extractors.models import Model


class ModelCommands(click.Group):
    """Provides every model as a subcommand."""

    context_class = PageContext

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all models."""
        from featood.extractors.models import list_models

        return list(list_models())

    def get_command(self, ctx: click.Context, name: str) -> click.Command:
        """Make the command of one model."""
        from featood.extractors.models import model_class

        return ModelCommand(model_class(name))

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the models with their titles."""
        from featood.extractors.models import list_models

        assert isinstance(formatter, PageFormatter)
        titles = [(name, f"{cls.card.title} ({cls.card.year}).") for name, cls in list_models().items()]
        formatter.write_lists({"Models": titles})


@click.group(cls=ModelCommands, subcommand_metavar="MODEL [OPTIONS]...")
def train() -> None:
    """Train a network on images, for extract --backbone FOLDER.

    Example: featood train cross-entropy --dataset cifar10 --arch cifar-resnet18 --augment crop,flip
    """


class ModelCommand(click.Command):
    """``featood train NAME``."""

    context_class = PageContext

    def __init__(self, cls: type[Model]) -> None:
        card = cls.card
        text = f"{inspect.cleandoc(cls.__doc__ or '')}\n\n{card.paper}, {card.year}. {card.url}"

        def run(**values: Any) -> None:
            _run(card.name, **values)

        super().__init__(name=card.name, callback=run, help=text, short_help=card.title)
        del self.params
        self._model = cls

    @functools.cached_property
    def params(self) -> list[click.Parameter]:  # type: ignore[override]
        """Options of the model, of what to train on, and of how to train."""
        return [option for options in _options(self._model).values() for option in options]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the three groups of options."""
        assert isinstance(formatter, PageFormatter)
        formatter.write_lists(
            {
                title: list(filter(None, (option.get_help_record(ctx) for option in options)))
                for title, options in _options(self._model).items()
            }
        )


def _options(model: type[Model]) -> dict[str, list[click.Parameter]]:
    from featood.extractors.trainer import TrainOptions
    from featood.options import options_of

    (data_dir,) = data_dir_option(click.Command(name=None)).params
    return {
        f"Options of {model.card.name}": [parameter_of(option) for option in options_of(model)],
        "What to train": [
            click.Option(["--arch"], required=True, help="Network: cifar-resnet18, wrn-28-10, tv:NAME, timm:NAME, ..."),
            click.Option(["--arch-option"], multiple=True, metavar="NAME=VALUE",
                         help="Option of the network, such as dropout=0.3; may be repeated."),
            click.Option(["--dataset"], required=True, shell_complete=image_sets, help="Labelled images to train on."),
            click.Option(["--split"], default="train", show_default=True, help="Their split."),
            click.Option(["--outliers"], default="", shell_complete=image_sets,
                         help="Images to train on as outliers: NAME or NAME/SPLIT."),
            click.Option(["--limit"], type=click.IntRange(0), default=0, help="Use only the first images of each set."),
            click.Option(["--image-size"], type=click.IntRange(0), default=0,
                         help="Side of the input in pixels (default: that of the dataset)."),
            data_dir,
            click.Option(["--out"], default="", help="Folder to write (default: trained/ARCH-MODEL-DATASET-SEED)."),
            click.Option(["--overwrite"], is_flag=True, help="Replace a trained network in that folder."),
            click.Option(["--json", "as_json"], is_flag=True, help="Print the summary as JSON."),
        ],
        "How to train": [parameter_of(option) for option in options_of(TrainOptions)],
    }  # fmt: skip


def _run(
    name: str, arch: str, arch_option: tuple[str, ...], dataset: str, split: str, outliers: str, limit: int,
    image_size: int, data_dir: str | None, out: str, overwrite: bool, as_json: bool, **values: Any,
) -> None:  # fmt: skip
    import dataclasses
    from pathlib import Path

    from featood.cache import slug
    from featood.extractors.trainer import Architecture, TrainOptions
    from featood.pipeline.training import TrainPlan, train_extractor

    how = {field.name: values.pop(field.name) for field in dataclasses.fields(TrainOptions)}
    folder = Path(out or f"trained/{slug(arch)}-{name}-{slug(dataset)}-{how['seed']}")
    plan = TrainPlan(
        model=name, dataset=dataset, architecture=Architecture(arch, _pairs(arch_option)), out=folder, options=values,
        split=split, outliers=outliers, limit=limit, image_size=image_size, data_dir=data_dir, overwrite=overwrite,
    )  # fmt: skip
    with TerminalReporter() as reporter:
        summary = train_extractor(plan, TrainOptions(**how), reporter=reporter)
    if as_json:
        emit_json({"folder": str(folder), **summary})
        return
    accuracy = summary.get("validation_accuracy")
    held = "" if accuracy is None else f", accuracy {100 * accuracy:.2f} % on held-out images"
    click.echo(f"{summary['steps']} updates in {summary['seconds']:.0f} s{held}; saved in {folder}")


def _pairs(texts: tuple[str, ...]) -> dict[str, Any]:
    """Parse NAME=VALUE; numbers and true or false are recognised."""
    import json

    pairs: dict[str, Any] = {}
    for text in texts:
        name, named, value = text.partition("=")
        if not named:
            raise UsageError(f"an option of the network is written NAME=VALUE, not '{text}'")
        try:
            pairs[name.replace("-", "_")] = json.loads(value)
        except ValueError:
            pairs[name.replace("-", "_")] = value
    return pairs
