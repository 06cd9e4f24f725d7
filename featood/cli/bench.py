"""``featood bench``."""

from __future__ import annotations

__all__ = ["bench"]

import itertools
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import rich_click as click

from featood.cli.common import Place, table
from featood.errors import UsageError
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
@click.option("--io", is_flag=True, help="Measure reading the stores of a cache, beside .npy files.")
@click.option(
    "--extract", is_flag=True, help="Measure extraction, beside the bare forward pass and bare decoding."
)
@click.option("--train", is_flag=True, help="Measure updates of heads that train a network.")
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
    "--backbone", "backbones", multiple=True, metavar="NAME",
    help="Network for --extract, with random weights; repeat for several (default: cifar-resnet20 and resnet18).",
)  # fmt: skip
@click.option("--batch-size", type=click.IntRange(1), default=64, show_default=True, help="For --extract.")
@click.option(
    "--batches", type=click.IntRange(1), help="For --extract (default: as many as take about four seconds)."
)
@click.option(
    "--precision", default="float32", show_default=True,
    type=click.Choice(["float32", "bfloat16", "float16"]), help="Precision of the networks for --extract.",
)  # fmt: skip
@click.option("--device", default="auto", show_default=True, help="Device of the networks for --extract.")
@click.option(
    "--peers", is_flag=True, help="Measure other installed libraries too (pytorch-ood, faiss, scikit-learn)."
)
@click.option(
    "--threads", type=click.IntRange(1), help="Threads of PyTorch and BLAS (default: their own choice)."
)
@click.option(
    "--repeat", type=click.IntRange(1), default=3, show_default=True,
    help="Runs: of a head, the fastest counts; of everything else, the median.",
)  # fmt: skip
@click.option(
    "--cap", type=float, default=60.0, show_default=True, help="Maximum seconds of one fit or scoring."
)
@click.option("--json", "file", type=Place(dir_okay=False), metavar="FILE", help="Write all figures as JSON.")
@click.option(
    "--page", type=Place(dir_okay=False),
    help="Write a page of the documentation, in Markdown; what it has of other measurements is kept.",
)  # fmt: skip
@click.option(
    "--plot",
    type=Place(dir_okay=False),
    help="Draw the cost of heads against the sizes that vary (.svg, .png).",
)
@click.option(
    "--compare", type=click.Path(exists=True, dir_okay=False), metavar="FILE",
    help="Compare the ratios to the floors with those of an earlier --json.",
)  # fmt: skip
@click.option(
    "--slower", type=float, default=1.5, show_default=True,
    help="With --compare: name the ratios that have grown by more than this factor, and exit with 1 if there are any.",
)  # fmt: skip
def bench(
    heads: tuple[str, ...], io: bool, extract: bool, train: bool, threads: int | None, file: str | None,
    page: str | None, plot: str | None, compare: str | None, slower: float, **how: Any,
) -> None:  # fmt: skip
    """Measure how long HEADS take to fit and to score, beside floors measured in the same run.

    A floor is the time of the matrix products, decompositions and copies that a formula cannot do without. The features
    are synthetic. Each head is measured in a process of its own, with its peak memory beyond the features.

    With --io, --extract or --train, these are measured, and only those heads that are named.

    Example: featood bench mahalanobis knn vim --peers

    Example: featood bench --io --extract --train
    """
    from threadpoolctl import threadpool_limits

    from featood.files import atomic_write
    from featood.heads import head_class
    from featood.speed import report
    from featood.speed.comparison import compare as compare_ratios
    from featood.speed.comparison import grown, ratios
    from featood.speed.environment import environment
    from featood.speed.heads import HEADS

    for name in heads:
        head_class(name)  # raises if there is none
    # read first, as --json and --page may write the same files
    earlier = json.loads(Path(compare).read_text(encoding="utf-8")) if compare else {}
    kept = Path(page).read_text(encoding="utf-8") if page and Path(page).exists() else ""
    named = heads or (() if io or extract or train else HEADS)
    if plot and not named:
        raise UsageError("--plot draws the cost of heads: name the heads to measure")
    found: dict[str, list[dict[str, Any]]] = {}
    with TerminalReporter() as reporter, threadpool_limits(threads):
        if threads:
            import torch

            torch.set_num_threads(threads)
        about = environment()
        wanted = _measurements(named, io, extract, train, threads or 0, **how)
        for done, (section, name, measure) in enumerate(wanted):
            reporter.progress(f"measuring {name}", done, len(wanted))
            found.setdefault(section, []).extend(measure())
            if file:  # after each measurement, so that an interruption loses none
                atomic_write(Path(file), json.dumps({"environment": about, **found}, indent=1).encode())
        reporter.progress("measuring", len(wanted), len(wanted))
    for rows in found.values():
        for shown in report.tables(rows):
            _print_table(shown)
    print_line(", ".join(f"{key} {value}" for key, value in about.items()))
    if page:
        text = report.page(found, about, " ".join(["featood", *sys.argv[1:]]), kept)
        atomic_write(Path(page), text.encode())
    if plot:
        report.plot(found["heads"], plot)
    if compare:
        changes = compare_ratios(ratios(earlier), ratios(found))
        _print_table(changes)
        for line in (slow := grown(changes, slower)):
            print_line(line)
        if slow:
            sys.exit(1)


def _measurements(
    heads: Sequence[str], io: bool, extract: bool, train: bool, threads: int, *,
    rows: list[int], features: list[int], classes: list[int], test_rows: list[int], backbones: tuple[str, ...],
    batch_size: int, batches: int | None, precision: str, device: str, peers: bool, repeat: int, cap: float,
) -> list[tuple[str, str, Callable[[], list[dict[str, Any]]]]]:  # fmt: skip
    """Return what to measure: the section, a name for the progress, and a function that returns rows."""
    from featood.speed.extraction import BACKBONES, Extracting, measure_extraction
    from featood.speed.floors import Operations
    from featood.speed.heads import Measuring, measure_head
    from featood.speed.stores import measure_stores
    from featood.speed.synthetic import Size
    from featood.speed.training import TRAINED, measure_training

    operations, how = Operations(repeat), Measuring(threads, repeat, cap, peers)
    extracting = Extracting(batch_size, batches or 0, precision, device)
    return [
        *(
            ("heads", name, partial(measure_head, name, Size(*size), how, operations))
            for size in itertools.product(rows, features, classes, test_rows)
            for name in heads
        ),
        *(
            ("io", "stores", partial(measure_stores, *size, repeat))
            for size in itertools.product(rows if io else (), features)
        ),
        *(
            ("extract", name, partial(measure_extraction, name, extracting, repeat))
            for name in ((backbones or BACKBONES) if extract else ())
        ),
        *(
            ("train", name, partial(measure_training, name, *size, repeat))
            for size in itertools.product(features if train else (), classes)
            for name in TRAINED
        ),
    ]


def _print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    from featood.speed.report import cell

    table(list(rows[0]), ([cell(value) for value in row.values()] for row in rows))
