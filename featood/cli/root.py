"""The root command; a subcommand is imported when it runs, or when help lists it."""

from __future__ import annotations

__all__ = ["root"]

from importlib import import_module

import rich_click as click

import featood

COMMANDS = {
    "extract": "extract.extract",
    "import": "importing.import_",
    "fit": "fit.fit",
    "tune": "tune.tune",
    "score": "score.score",
    "report": "score.report",
    "verify": "verify.verify",
    "heads": "listing.heads",
    "backbones": "listing.backbones",
    "datasets": "listing.datasets",
    "cache": "cache.cache",
    "demo": "demo.demo",
}
"""Where each command is, below `featood.cli`."""

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


class Commands(click.RichGroup):
    """Imports a subcommand on first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import a command; None where there is none of that name."""
        if name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[name].partition(".")
        return getattr(import_module(f"featood.cli.{module}"), attribute)


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
    """Out-of-distribution scores from cached features.

    Run a backbone over images once, then fit and compare any detector in seconds.
    Higher score = more out-of-distribution, everywhere.
    """
