"""``featood recommend``."""

from __future__ import annotations

__all__ = ["recommend"]

import rich_click as click

from featood.cli.common import (
    backbone_option,
    cache_of,
    cache_option,
    code_option,
    dataset_option,
    emit_json,
    head_file_option,
    table,
)
from featood.reporter import TerminalReporter, print_line


@click.command()
@click.option(
    "--heads", multiple=True, metavar="HEAD",
    help="Head to try, with options as in 'knn k=10'; may be repeated (default: all that do not train a network).",
)  # fmt: skip
@click.option("--split", default="", help="Split to fit on (default: train).")
@click.option(
    "--limit", type=click.IntRange(0), default=10_000, show_default=True,
    help="Rows to use of each split, evenly spaced; 0 for all.",
)  # fmt: skip
@click.option(
    "--budget", type=click.FloatRange(0, min_open=True), default=600.0, show_default=True, metavar="SECONDS",
    help="Time after which no further head is tried.",
)  # fmt: skip
@click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True,
    help="Seed for holding out rows and classes, and for making pseudo-outliers.",
)  # fmt: skip
@click.option(
    "--top", type=click.IntRange(1), default=20, show_default=True, help="Number of heads in the table."
)
@click.option("--json", "as_json", is_flag=True, help="Print all heads as JSON.")
@backbone_option
@dataset_option
@code_option
@head_file_option
@cache_option
def recommend(
    heads: tuple[str, ...], split: str, limit: int, budget: float, seed: int, top: int, as_json: bool, backbone: str,
    dataset: str, cache_root: str, code: tuple[str, ...],
) -> None:  # fmt: skip
    """Predict which heads suit the features in the cache, without out-of-distribution data.

    Each head is fitted without some of the classes, and tells held-out rows of these classes from the others; five
    times, so that each class is left out once. Heads within one standard error of the best come first, in the order in
    which they detect rows crossed from two others. The order is a prediction: the AUROC of real outliers is lower, and
    another head may be better on them. Compare the first ones by featood score.

    Example: featood recommend --budget 60
    """
    from featood.pipeline.recommendation import recommend_heads
    from featood.pipeline.selection import select

    with TerminalReporter() as reporter:
        selection = select(cache_of(cache_root, backbone, code), backbone, dataset)
        found = recommend_heads(
            selection, heads, split=split, limit=limit, budget=budget, seed=seed, reporter=reporter
        )
    if as_json:
        emit_json(found.as_json())
        return
    kinds = [*found.criterion, *(kind for kind in found.rows[0].auroc if kind not in found.criterion)]
    rows = (
        (
            row.label, *(f"{100 * sum(row.auroc[kind]) / len(row.auroc[kind]):.1f}" for kind in kinds),
            f"{row.fit_s:.2f}", f"{row.score_ms:.3f}", f"{row.size_mb:.2f}", row.reason,
        )
        for row in found.rows[:top]
    )  # fmt: skip
    table(("head", *kinds, "fit s", "ms/row", "MB", "why"), rows)
    print_line(
        f"{len(found.rows)} heads, by {' and '.join(found.criterion)}; {', '.join(kinds)}: AUROC of such rows in %; "
        "MB: fitted tensors"
    )
    if len(found.criterion) > 1:
        print_line(
            "heads that detect unseen classes miss rows of small norm here, so both count, and less is certain"
        )
    if found.skipped:
        print_line(f"{len(found.skipped)} heads were not tried: --json says why")
    print_line(
        "a prediction from in-distribution rows alone: compare the first heads on real outliers by featood score"
    )
