"""``featood active-learning``."""

from __future__ import annotations

__all__ = ["active_learning"]

import functools
from typing import TYPE_CHECKING, Any

import rich_click as click

from featood.cli.common import data_dir_option, emit_json, parameter_of, table
from featood.cli.completion import image_sets
from featood.cli.options import parse_pairs
from featood.cli.pages import PageContext, PageFormatter, card_command
from featood.reporter import TerminalReporter, print_line

if TYPE_CHECKING:
    from featood.pipeline.active_learning import Acquisition

PLOT = "accuracy.png"


class AcquisitionCommands(click.Group):
    """Provides every acquisition as a subcommand."""

    context_class = PageContext

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all acquisitions."""
        from featood.pipeline.active_learning import list_acquisitions

        return list(list_acquisitions())

    def get_command(self, ctx: click.Context, name: str) -> click.Command:
        """Make the command of one acquisition."""
        from featood.pipeline.active_learning import acquisition_class

        cls = acquisition_class(name)
        return card_command(cls, functools.partial(_options, cls), functools.partial(_run, cls))

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the acquisitions with their titles."""
        from featood.pipeline.active_learning import list_acquisitions

        assert isinstance(formatter, PageFormatter)
        titles = [(name, f"{cls.card.title} ({cls.card.year}).") for name, cls in list_acquisitions().items()]
        formatter.write_lists({"Acquisitions": titles})


@click.group(cls=AcquisitionCommands, subcommand_metavar="ACQUISITION [OPTIONS]...")
def active_learning() -> None:
    """Train on few images, and choose those to label next in several ways.

    Each round trains a new network on the labelled images, tests it, and labels those images of the pool
    that the acquisition ranks highest. Acquisitions with the same --out are compared in one plot.

    Example: featood active-learning gmm --dataset mnist --arch cifar-resnet18 --arch-option sn=true --out al

    Example: featood active-learning ensemble --mutual-information --dataset mnist --arch cifar-resnet18 --out al
    """


def _options(acquisition: type[Acquisition]) -> dict[str, list[click.Parameter]]:
    from featood.extractors.trainer import TrainOptions
    from featood.options import options_of
    from featood.pipeline.active_learning import TRAINING, ActivePlan

    (data_dir,) = data_dir_option(click.Command(name=None)).params
    how = [
        entry._replace(
            default=getattr(TRAINING, entry.name),
            help="of all random draws" if entry.name == "seed" else entry.help,
        )
        for entry in options_of(TrainOptions)
        if entry.name != "outlier_batch"
    ]
    return {
        f"Options of {acquisition.card.name}": [parameter_of(option) for option in options_of(acquisition)],
        "The experiment": [
            click.Option(["--dataset"], required=True, shell_complete=image_sets, help="Labelled images: the pool."),
            click.Option(["--split"], default="train", show_default=True, help="Their split."),
            click.Option(["--test"], default="", help="Images to test on: NAME or NAME/SPLIT (default: DATASET/test)."),
            *(parameter_of(option) for option in options_of(ActivePlan)),
            click.Option(["--judge"], default="", help="Folder of a trained network, whose softmax entropy tells how "
                         "ambiguous the labelled images are (default, with --ambiguous: the entropy of the labels "
                         "that an image has in the pool)."),
            click.Option(["--threshold"], type=click.FloatRange(0), default=None,
                         help="Entropy in nats above which an image is ambiguous (default: 1 with --judge, else 0)."),
            click.Option(["--arch"], required=True, help="Network: cifar-resnet18, lenet, tv:NAME, timm:NAME, ..."),
            click.Option(["--arch-option"], multiple=True, metavar="NAME=VALUE",
                         help="Option of the network, such as sn=true; may be repeated. "
                              "featood backbones NAME lists them."),
            click.Option(["--image-size"], type=click.IntRange(0), default=0,
                         help="Side of the input in pixels (default: that of the dataset)."),
            data_dir,
            click.Option(["--out"], default="", help="Folder to write (default: active-learning/ARCH-DATASET-SEED)."),
            click.Option(["--json", "as_json"], is_flag=True, help="Print the summary as JSON."),
        ],
        "Training of a network": [parameter_of(option) for option in how],
    }  # fmt: skip


def _run(
    cls: type[Acquisition], arch: str, arch_option: tuple[str, ...], dataset: str, out: str, as_json: bool,
    **values: Any,
) -> None:  # fmt: skip
    import dataclasses
    from pathlib import Path

    from featood.cache import slug
    from featood.extractors.trainer import Architecture
    from featood.files import atomic_write
    from featood.pipeline.active_learning import TRAINING, ActivePlan, run_experiment
    from featood.report import learning_curves, png

    def given(kind: Any) -> dict[str, Any]:
        return {
            field.name: values.pop(field.name) for field in dataclasses.fields(kind) if field.name in values
        }

    acquisition = cls(**given(cls))
    folder = Path(out or f"active-learning/{slug(arch)}-{slug(dataset)}-{values['seed']}")
    plan = ActivePlan(
        dataset=dataset,
        architecture=Architecture(arch, parse_pairs(arch_option)),
        out=folder,
        **given(ActivePlan),
    )
    with TerminalReporter() as reporter:
        summary = run_experiment(
            acquisition, plan, dataclasses.replace(TRAINING, **values), reporter=reporter
        )
    curves = summary["acquisitions"]
    figure = learning_curves(curves, f"{summary['pool']}, {summary['architecture']}")
    atomic_write(folder / PLOT, png(figure))
    if as_json:
        emit_json(summary)
        return
    print_curves(curves)
    print_line(f"accuracies, records and plot: {folder}")


def print_curves(curves: Any) -> None:
    """Print the mean test accuracy and its standard error, one row for each number of labels."""
    rows = []
    for labels in sorted({number for curve in curves.values() for number in curve["labels"]}):
        places = [
            curve["labels"].index(labels) if labels in curve["labels"] else None for curve in curves.values()
        ]
        both = list(zip(curves.values(), places, strict=True))
        runs = sorted({curve["runs"][place] for curve, place in both if place is not None})
        rows.append([labels, *(_cell(curve, place) for curve, place in both), "-".join(map(str, runs))])
    table(("labels", *curves, "runs"), rows)


def _cell(curve: Any, place: int | None) -> str:
    if place is None:
        return "-"
    error = curve["standard_error"][place]
    return f"{100 * curve['accuracy'][place]:.2f}" + ("" if error is None else f" ± {100 * error:.2f}")
