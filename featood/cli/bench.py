"""``featood bench``."""

from __future__ import annotations

__all__ = ["bench"]

import itertools
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import rich_click as click

from featood.cli.common import Place, table
from featood.reporter import TerminalReporter, print_line


def sizes(_: click.Context, __: click.Parameter, value: str) -> list[int]:
    """Split a comma-separated list of positive numbers, as an option's callback."""
    try:
        found = [int(part.replace("_", "")) for part in value.split(",")]
    except ValueError:
        raise click.BadParameter(f"{value} is not a list of whole numbers, such as 10000,100000") from None
    if min(found) < 1:
        raise click.BadParameter("sizes are positive")
    return found


@click.command()
@click.argument("heads", nargs=-1)
@click.option(
    "--rows", default="20000", show_default=True, callback=sizes, help="Training rows; or several, N1,N2."
)
@click.option(
    "--features", default="2048", show_default=True, callback=sizes, help="Features per row; or several."
)
@click.option("--classes", default="1000", show_default=True, callback=sizes, help="Classes; or several.")
@click.option(
    "--test-rows", default="10000", show_default=True, callback=sizes, help="Rows to score; or several."
)
@click.option(
    "--peers", is_flag=True, help="Measure other installed libraries too (pytorch-ood, faiss, scikit-learn)."
)
@click.option(
    "--threads", type=click.IntRange(1), help="Threads of PyTorch and BLAS (default: their own choice)."
)
@click.option(
    "--repeat", type=click.IntRange(1), default=3, show_default=True, help="Runs; the fastest counts."
)
@click.option(
    "--cap", type=float, default=60.0, show_default=True, help="Maximum seconds of one fit or scoring."
)
@click.option("--json", "file", type=Place(dir_okay=False), metavar="FILE", help="Write all figures as JSON.")
@click.option("--page", type=Place(dir_okay=False), help="Write a page of the documentation, in Markdown.")
@click.option(
    "--plot", type=Place(dir_okay=False), help="Draw the cost against the sizes that vary (.svg, .png)."
)
@click.option(
    "--compare", type=click.Path(exists=True, dir_okay=False), metavar="FILE",
    help="Compare the ratios to the floors with those of an earlier --json.",
)  # fmt: skip
@click.option(
    "--slower", type=float, default=1.5, show_default=True,
    help="With --compare: exit with 1 if a ratio has grown by more than this factor.",
)  # fmt: skip
def bench(
    heads: tuple[str, ...], rows: list[int], features: list[int], classes: list[int], test_rows: list[int],
    peers: bool, threads: int | None, repeat: int, cap: float, file: str | None, page: str | None, plot: str | None,
    compare: str | None, slower: float,
) -> None:  # fmt: skip
    """Measure how long HEADS take to fit and to score, beside floors measured in the same run.

    A floor is the time of the matrix products, decompositions and copies that a formula cannot do without. The features
    are synthetic. Each head is measured in a process of its own, with its peak memory beyond the features.

    Example: featood bench mahalanobis knn vim --peers
    """
    from threadpoolctl import threadpool_limits

    from featood.files import atomic_write
    from featood.heads import head_class
    from featood.speed import report
    from featood.speed.environment import environment
    from featood.speed.floors import Operations
    from featood.speed.heads import HEADS, Measuring, measure_head
    from featood.speed.synthetic import Size

    for name in heads:
        head_class(name)  # raises if there is none
    wanted = [
        (name, Size(*size))
        for size in itertools.product(rows, features, classes, test_rows)
        for name in heads or HEADS
    ]
    # read first, as --json may write the same file
    earlier = json.loads(Path(compare).read_text(encoding="utf-8"))["rows"] if compare else []
    found = []
    with TerminalReporter() as reporter, threadpool_limits(threads):
        if threads:
            import torch

            torch.set_num_threads(threads)
        about = environment()
        operations, how = Operations(repeat), Measuring(threads or 0, repeat, cap, peers)
        for done, (name, size) in enumerate(wanted):
            reporter.progress(f"measuring {name}", done, len(wanted))
            found.append(measure_head(name, size, how, operations))
            if file:  # after each head, so that an interruption loses none
                content = json.dumps({"environment": about, "rows": found}, indent=1)
                atomic_write(Path(file), content.encode())
        reporter.progress("measuring", len(wanted), len(wanted))
    for shown in report.tables(found):
        _print_table(shown)
    print_line(", ".join(f"{key} {value}" for key, value in about.items()))
    if page:
        text = report.page(found, about, " ".join(["featood", *sys.argv[1:]]))
        atomic_write(Path(page), text.encode())
    if plot:
        report.plot(found, plot)
    if compare:
        changes = report.compare(earlier, found)
        _print_table(changes)
        if any((row[what] or 0) > slower for row in changes for what in ("fit", "score")):
            print_line(f"a ratio to the floor has grown by more than {slower:g} times")
            sys.exit(1)


def _print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    from featood.speed.report import cell

    table(list(rows[0]), ([cell(value) for value in row.values()] for row in rows))
