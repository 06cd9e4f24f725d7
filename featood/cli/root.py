"""The root command and its subcommands."""

from __future__ import annotations

__all__ = ["root"]

import rich_click as click

import featood
from featood.cli.cache import cache
from featood.cli.demo import demo
from featood.cli.extract import extract
from featood.cli.fit import fit
from featood.cli.importing import import_
from featood.cli.listing import backbones, datasets, heads
from featood.cli.score import report, score
from featood.cli.tune import tune
from featood.cli.verify import verify

click.rich_click.COMMAND_GROUPS = {
    "*featood": [
        {
            "name": "The pipeline",
            "commands": ["extract", "import", "fit", "tune", "score", "report", "verify"],
        },
        {"name": "What there is", "commands": ["heads", "backbones", "datasets", "cache"]},
        {"name": "Getting to know it", "commands": ["demo"]},
    ]
}


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(featood.__version__, prog_name="featood")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def root(debug: bool) -> None:
    """Out-of-distribution scores from cached features.

    Run a backbone over images once, then fit and compare any detector in seconds.
    Higher score = more out-of-distribution, everywhere.
    """


for command in (extract, import_, fit, tune, score, report, verify, heads, backbones, datasets, cache, demo):
    root.add_command(command)
