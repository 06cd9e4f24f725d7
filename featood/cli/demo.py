"""``featood demo``."""

from __future__ import annotations

__all__ = ["demo"]

import rich_click as click

from featood.cli.common import progress_bar, quiet_downloads, say


@click.command()
@click.option(
    "--out", default="demo", show_default=True, type=click.Path(file_okay=False), help="Folder to work in."
)
@quiet_downloads
def demo(out: str) -> None:
    """Train a small network on handwritten digits and compare six heads, in a minute or two.

    The digits 0 to 6 are in-distribution; 7 to 9, patches of photographs and noise are not.
    """
    from pathlib import Path

    from featood.cli.score import print_results, save_report
    from featood.engine.demo import run_demo

    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    with progress_bar() as progress:
        scoring = run_demo(folder, progress, say)
    print_results(scoring)
    save_report(scoring, str(folder / "report.html"))
