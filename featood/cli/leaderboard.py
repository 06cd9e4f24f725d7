"""``featood leaderboard``."""

from __future__ import annotations

__all__ = ["leaderboard"]

import shlex
import sys

import rich_click as click

from featood.cli.common import Place, cache_option
from featood.cli.verify import print_verdicts
from featood.reporter import TerminalReporter, print_line


@click.command()
@click.argument("plan", type=click.Path(dir_okay=False))
@click.argument("folder", type=Place(file_okay=False))
@click.option(
    "--head", "heads", multiple=True, help="Fit only this head now; may be repeated (default: all)."
)
@click.option("--fit/--no-fit", "fits", default=True, help="Whether to make fits, or only the page.")
@click.option("--training", is_flag=True, help="Also fit heads that train a network (minutes each).")
@click.option(
    "--jobs", type=click.IntRange(1), default=1, show_default=True,
    help="Number of fits at a time, each with one thread, in a process of its own.",
)  # fmt: skip
@click.option(
    "--cap", type=click.FloatRange(0, min_open=True), default=600.0, show_default=True,
    help="Leave out a head that takes more seconds for a fit and its scores.",
)  # fmt: skip
@click.option("--page", type=Place(dir_okay=False), help="Write the tables as a page in Markdown.")
@click.option(
    "--verify", "patterns", multiple=True, metavar="PATTERN",
    help="Instead, compute the fits BACKBONE/DATASET/LABEL that match, such as '*/knn', again and compare; may be "
    "repeated.",
)  # fmt: skip
@cache_option
def leaderboard(
    plan: str, folder: str, heads: tuple[str, ...], fits: bool, training: bool, jobs: int, cap: float, page: str | None,
    patterns: tuple[str, ...], cache_root: str,
) -> None:  # fmt: skip
    """Compare all heads on the backbones in PLAN, a TOML file, and keep the results in FOLDER.

    Each finished fit is one line of FOLDER/results.jsonl; the same command continues after an interruption. Nothing is
    extracted, and the cache is not changed.

    PLAN has a table [[benchmark]] for each backbone, with its name as backbone, the in-distribution dataset, lists of
    the near and far sets, and, if there is no training split, the test-share of the rows to score; with ranked = false
    it does not count in the mean ranks. Before them, it may have seeds (fits of each head that draws random numbers,
    3), epochs (of every head that trains a network), resamples (of the bootstrap, 1000) and a note for the page, and
    after them tables of options such as [options.knn].

    Example: featood leaderboard plan.toml leaderboard --jobs 8 --training --page leaderboard.md

    Example: featood leaderboard plan.toml leaderboard --verify '*/knn'
    """
    from featood.cache import open_cache
    from featood.errors import UsageError
    from featood.heads import head_class
    from featood.pipeline.leaderboard import Results, Work, read_plan, run_fits, tables, verify_lines
    from featood.report import leaderboard_page
    from featood.report.files import write_text

    if patterns and (heads or page or training or not fits):
        raise UsageError("--verify only compares; omit --head, --training, --no-fit and --page")
    if not fits and (heads or training):
        raise UsageError("--no-fit makes no fits; omit --head and --training")
    for head in heads:
        head_class(head)  # raises if there is none
    work, results = Work.of(open_cache(cache_root), read_plan(plan)), Results(folder)
    with TerminalReporter() as reporter:
        if patterns:
            verdicts = verify_lines(work, results, patterns, processes=jobs, cap=cap, reporter=reporter)
        elif fits:
            run_fits(work, results, heads, training=training, processes=jobs, cap=cap, reporter=reporter)
    if patterns:
        return print_verdicts(str(results.file), verdicts)
    if page:
        write_text(page, leaderboard_page(tables(work, results), shlex.join(["featood", *sys.argv[1:]])))
    print_line(f"results: {results.file}")
