"""``featood demo``."""

from __future__ import annotations

__all__ = ["demo"]

import rich_click as click


@click.command()
@click.option("--out", default="demo", show_default=True, type=click.Path(file_okay=False), help="Folder to work in.")
def demo(out: str) -> None:
    """Train a small network on handwritten digits and compare heads, in a minute or two."""
