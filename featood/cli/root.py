"""The root command; a subcommand is imported when it runs."""

from __future__ import annotations

__all__ = ["COMMANDS", "root"]

from importlib import import_module
from typing import NamedTuple

import rich_click as click

import featood
from featood.cli.pages import PageContext, PageFormatter


class Listed(NamedTuple):
    """A command listed on the help page."""

    place: str
    """Module and name below `featood.cli`."""
    text: str
    """First line of its docstring, repeated here so that the help page imports no command."""


SECTIONS = {
    "The pipeline": {
        "extract": Listed("extract.extract", "Run a backbone over a dataset and cache features and logits."),
        "train": Listed("train.train", "Train a network on images or texts, for extract --backbone FOLDER."),
        "active-learning": Listed(
            "active.active_learning", "Train on few images, and choose those to label next in several ways."
        ),
        "import": Listed(
            "importing.import_",
            "Import tables, or embeddings computed elsewhere, into the cache.",
        ),
        "embed-texts": Listed(
            "embed_texts.embed_texts",
            "Write text embeddings of class names, or of other words, to FILE (.safetensors).",
        ),
        "fit": Listed("fit.fit", "Fit a head on cached features and save it."),
        "tune": Listed(
            "tune.tune", "Choose a head's options on a validation set, then fit it with the best and save it."
        ),
        "recommend": Listed(
            "recommend.recommend",
            "Predict which heads suit the features in the cache, without out-of-distribution data.",
        ),
        "score": Listed("score.score", "Score heads on the test set against out-of-distribution sets."),
        "dense": Listed("dense.dense", "Detect out-of-distribution pixels or patches in images with masks."),
        "report": Listed(
            "report.report",
            "Write one self-contained HTML page: a matrix of heads and sets, and figures of their scores.",
        ),
        "threshold": Listed(
            "threshold.threshold",
            "Choose the threshold of a fitted HEAD, and write the detector, a folder for featood predict.",
        ),
        "predict": Listed(
            "predict.predict",
            "Decide for each image in FILES whether it is out-of-distribution, by a DETECTOR of featood threshold.",
        ),
        "monitor": Listed(
            "monitor.monitor",
            "Watch a STREAM of images for changes, by a DETECTOR of featood threshold.",
        ),
        "migrate": Listed(
            "migrate.migrate",
            "Move a DETECTOR to another network, by some hundred in-distribution images without labels.",
        ),
        "serve": Listed(
            "serve.serve",
            "Serve a DETECTOR of featood threshold by HTTP, after it has tested itself on its golden inputs.",
        ),
        "export": Listed(
            "export.export",
            "Write a detector (a folder of featood threshold), or a fitted head, to FILE for other runtimes.",
        ),
        "evaluate": Listed(
            "evaluate.evaluate",
            "Repeat a published evaluation over several networks and several runs of each.",
        ),
        "benchmark": Listed(
            "benchmark.benchmark",
            "Score heads on the benchmark NAME, such as cifar10-openood; without NAME, list the benchmarks.",
        ),
        "run": Listed(
            "run.run",
            "Run the steps in FILE, a TOML file with tables such as [extract], [[fit]], [score] and [report].",
        ),
        "bench": Listed(
            "bench.bench",
            "Measure how long HEADS take to fit and to score, beside floors measured in the same run.",
        ),
        "leaderboard": Listed(
            "leaderboard.leaderboard",
            "Compare all heads on the backbones in PLAN, a TOML file, and keep the results in FOLDER.",
        ),
        "verify": Listed("verify.verify", "Recompute RESULTS (of score --json) from the cache and compare."),
    },
    "Listings, cache and hub": {
        "heads": Listed(
            "listing.heads",
            "List the heads by family, or those that match all WORDS: in name, family, title, paper, year or inputs.",
        ),
        "backbones": Listed(
            "listing.backbones",
            "List backbones whose name contains PATTERN: published weights, and the networks of featood, torchvision "
            "and timm.",
        ),
        "datasets": Listed(
            "listing.datasets",
            "List the built-in sets of images, texts and recordings, tables and suites, and which are available "
            "locally.",
        ),
        "cache": Listed("cache.cache", "Manage the feature cache."),
        "push": Listed(
            "hub.push",
            "Upload SOURCE, the folder of a fitted head, a detector or a cache, to the Hugging Face hub, with a card.",
        ),
        "pull": Listed(
            "hub.pull", "Download a head, a detector or a cache from the Hugging Face hub to a new FOLDER."
        ),
    },
    "Demonstration": {
        "demo": Listed("demo.demo", "Compare six heads on data that need no download, in a minute or two."),
    },
}
COMMANDS = {name: listed for section in SECTIONS.values() for name, listed in section.items()}


class Commands(click.Group):
    """Imports a subcommand on first use."""

    context_class = PageContext

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import a command; return None if there is none of that name."""
        if name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[name].place.partition(".")
        return getattr(import_module(f"featood.cli.{module}"), attribute)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, and the commands by section."""
        assert isinstance(formatter, PageFormatter)
        options = [record for param in self.get_params(ctx) if (record := param.get_help_record(ctx))]
        sections = {
            title: [(name, listed.text) for name, listed in section.items()]
            for title, section in SECTIONS.items()
        }
        formatter.write_lists({"Options": options, **sections})


def _print_version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        click.echo(f"featood, version {featood.__version__}")
        context.exit()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version,
    help="Show the version and exit.",
)  # fmt: skip
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def root(debug: bool) -> None:
    """Out-of-distribution detection from cached features.

    Run a backbone over images, texts or recordings once, then fit and compare any detector in seconds.
    Higher score = more out-of-distribution, everywhere.
    """
