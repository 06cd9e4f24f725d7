"""``featood benchmark``."""

from __future__ import annotations

__all__ = ["benchmark"]

from typing import TYPE_CHECKING, Any

import rich_click as click

from featood.cli.common import (
    Place,
    backbone_option,
    cache_of,
    cache_option,
    code_option,
    data_dir_option,
    head_file_option,
    table,
)
from featood.cli.completion import benchmarks, fitted_heads
from featood.reporter import TerminalReporter, print_line

if TYPE_CHECKING:
    from featood.data import Benchmark


@click.command()
@click.argument("name", required=False, shell_complete=benchmarks)
@click.option(
    "--head", "heads", multiple=True, shell_complete=fitted_heads,
    help="Head to score with: a name or the folder of a fitted head; may be repeated (default: all fitted).",
)  # fmt: skip
@click.option(
    "--all",
    "every",
    is_flag=True,
    help="Score every head whose inputs are in the cache, fitting those not fitted yet.",
)
@click.option(
    "--training", is_flag=True, help="With --all: also fit heads that train a network (minutes each)."
)
@click.option(
    "--full-spectrum",
    is_flag=True,
    help="Count the benchmark's covariate-shifted sets as in-distribution, too.",
)
@click.option(
    "--available", is_flag=True, help="Leave out sets that are missing; the means are then over the others."
)
@click.option(
    "--lists/--no-lists",
    default=True,
    show_default=True,
    help="Score the rows of OpenOOD's image lists (benchmark_imglist/) where these and their images are there.",
)
@click.option(
    "--json", "json_path", type=Place(dir_okay=False, allow_dash=True),
    help="Write the results as JSON, as featood score does ('-': standard output).",
)  # fmt: skip
@click.option(
    "--csv", "csv_path", type=Place(dir_okay=False, allow_dash=True),
    help="Write a row for each head in the columns of OpenOOD's leaderboard ('-': standard output).",
)  # fmt: skip
@head_file_option
@backbone_option
@code_option
@data_dir_option
@cache_option
def benchmark(
    name: str | None, heads: tuple[str, ...], every: bool, lists: bool, json_path: str | None,
    csv_path: str | None, backbone: str, code: tuple[str, ...], data_dir: str | None, cache_root: str, **how: Any,
) -> None:  # fmt: skip
    """Score heads on the benchmark NAME, such as cifar10-openood; without NAME, list the benchmarks.

    The in-distribution set must be in the cache; sets to score against are extracted as they are needed. The table has
    the means over the sets of each group, and published figures, which were not checked.

    Example: featood benchmark cifar10-openood --head knn --head energy --available
    """
    from featood import data
    from featood.errors import UsageError
    from featood.pipeline.benchmarks import score_benchmark, select_inliers
    from featood.report import leaderboard_rows, write_json, write_rows

    if name is None:
        return _print_list()
    if every and heads:
        raise UsageError("--all scores every head; use either --all or --head")
    if how["training"] and not every:
        raise UsageError("--training is for --all; fit the heads by featood fit, or add --all")
    chosen = data.benchmark(name)
    with TerminalReporter() as reporter:
        cache = cache_of(cache_root, backbone, code)
        selection = select_inliers(cache, chosen, backbone, data_dir, lists=lists)
        scoring, scored, missing = score_benchmark(
            selection, chosen, heads, every=every, lists=lists, reporter=reporter, **how
        )
    for line in (
        *scoring.results["warnings"],
        *(f"left out {one['head']}: {one['reason']}" for one in scoring.results["skipped"]),
    ):
        print_line(f"warning: {line}")
    if json_path:
        write_json(json_path, scoring.results)
    if csv_path:
        write_rows(csv_path, leaderboard_rows(scoring.results, scored))
    if "-" not in (json_path, csv_path):
        _print_results(scoring.results, scored, missing)


def _print_list() -> None:
    from featood.data import list_benchmarks

    rows = [
        (one.name, one.protocol.title, one.dataset, "yes" if one.shifted else "-",
         "; ".join(f"{group}: {', '.join(sets)}" for group, sets in one.groups.items()))
        for one in list_benchmarks().values()
    ]  # fmt: skip
    table(("benchmark", "protocol", "ID", "full-spectrum", "OOD"), rows)


def _print_results(results: dict[str, Any], chosen: Benchmark, missing: list[str]) -> None:
    facts, protocol = results["id"], chosen.protocol
    shifted = [one["dataset"] for one in facts.get("shifted", ())]
    sizes = {row["ood"]: row["n_ood"] for row in results["rows"]}
    inliers = " with ".join(filter(None, (facts["dataset"], ", ".join(shifted))))
    click.echo(f"{chosen.name}: {protocol.title}, {protocol.page}; {protocol.note}")
    click.echo(f"ID: {inliers}, {results['rows'][0]['n_id']} rows")
    for group, sets in chosen.groups.items():
        parts = (f"{one}, {sizes[one]} rows" if one in sizes else f"{one}, missing" for one in sets)
        click.echo(f"{group}: {'; '.join(parts)}")
    if chosen.lists:
        other = results["benchmark"]["other_rows"]
        whose = f"the image lists of {protocol.title}"
        click.echo(
            f"rows: other than those of {whose}: {', '.join(other)}" if other else f"rows: those of {whose}"
        )
    click.echo(
        "AUROC and FPR95 in %, means over the sets of a group. OOD is the positive class: FPR95 is the share of ID"
    )
    click.echo("rows that are flagged where 95 % of the OOD rows are.\n")
    _print_table(results, chosen, with_published=not shifted)
    if missing:
        click.echo(f"{len(missing)} sets are left out, so the means are not those of the benchmark")


def _print_table(results: dict[str, Any], chosen: Benchmark, with_published: bool) -> None:
    from featood.report import benchmark_means
    from featood.report.rows import percent

    means = benchmark_means(results, chosen)
    groups = list(next(iter(means.values())))
    titles = [f"{group} {metric}" for group in groups for metric in ("AUROC", "FPR95")]
    rows = [
        [head, *(percent(row[key]) for row in found.values() for key in ("auroc", "fpr95_ood"))]
        for head, found in means.items()
    ]
    if with_published := with_published and any(head in chosen.published for head in means):
        titles += [f"published {group}" for group in groups]
        for row in rows:
            figures = chosen.published.get(row[0], {})
            row += [f"{figures[group]:.2f}" if group in figures else "-" for group in groups]
    table(("head", *titles), rows)
    if with_published:
        click.echo(f"published: AUROC on all sets, {chosen.network}; not checked")
