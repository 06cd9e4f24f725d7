"""``featood demo``."""

from __future__ import annotations

__all__ = ["demo"]

import rich_click as click

from featood.cli.common import Place, quiet_downloads
from featood.reporter import TerminalReporter


@click.command()
@click.argument("kind", type=click.Choice(["images", "tabular"]), default="images")
@click.option(
    "--out", default="demo", show_default=True, type=Place(file_okay=False), help="Folder to work in."
)
@quiet_downloads
def demo(kind: str, out: str) -> None:
    """Compare six heads on data that need no download, in a minute or two.

    images (the default): a small network is trained on handwritten digits. The digits 0 to 6 are
    in-distribution; 7 to 9, patches of photographs and noise are not.

    tabular: the features are the rows of two tables, a two-dimensional toy and wines. The report of the toy
    plots the scores of each head over the plane.
    """
    from pathlib import Path

    from featood.cli.report import save_report
    from featood.cli.score import print_results
    from featood.files import make_folder
    from featood.pipeline.demos.images import run_demo
    from featood.pipeline.demos.tables import run_tabular_demo

    folder = Path(out)
    make_folder(folder)
    with TerminalReporter() as reporter:
        if kind == "images":
            scorings = {"report.html": run_demo(folder, reporter=reporter)}
        else:
            found = run_tabular_demo(folder, reporter=reporter)
            scorings = {f"report-{scoring.results['id']['dataset']}.html": scoring for scoring in found}
    for page, scoring in scorings.items():
        print_results(scoring)
        save_report(scoring, str(folder / page))
