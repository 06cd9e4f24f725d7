"""``featood push`` and ``featood pull``."""

from __future__ import annotations

__all__ = ["pull", "push"]

import rich_click as click

from featood.cli.common import Place


@click.command()
@click.argument("source", type=Place(file_okay=False))
@click.argument("repo", metavar="USER/NAME")
@click.option(
    "--results", type=Place(dir_okay=False),
    help="File of featood score --json: its metrics of the head are shown with it.",
)  # fmt: skip
@click.option(
    "--benchmark", "benchmarks", multiple=True, metavar="SET=OWNER/DATASET#TASK",
    help="Show the AUROC for an out-of-distribution set on the leaderboard of this dataset; may be repeated.",
)  # fmt: skip
@click.option("--licence", help="Identifier of a licence, such as apache-2.0.")
@click.option("--private/--public", default=None, help="Of a new repository (default: as your account says).")
@click.option("--message", default="", help="Message of the commit.")
def push(
    source: str, repo: str, results: str | None, benchmarks: tuple[str, ...], licence: str | None,
    private: bool | None, message: str,
) -> None:  # fmt: skip
    """Upload SOURCE, the folder of a fitted head, a detector or a cache, to the Hugging Face hub, with a card.

    Log in before: hf auth login.

    Example: featood push knn-detector user/knn-detector --results results.json
    """
    from featood.errors import UsageError
    from featood.hub import push_to_hub

    pairs = [text.partition("=") for text in benchmarks]
    if wrong := [text for text, (_, found, _) in zip(benchmarks, pairs, strict=True) if not found]:
        raise UsageError(f"--benchmark is written SET=OWNER/DATASET#TASK, not {wrong[0]}")
    chosen = {name: where for name, _, where in pairs}
    click.echo(
        push_to_hub(
            source,
            repo,
            results=results,
            benchmarks=chosen,
            licence=licence,
            private=private,
            message=message,
        )
    )


@click.command()
@click.argument("address", metavar="hf://[datasets/]USER/NAME[@REVISION]")
@click.argument("folder", type=Place(file_okay=False))
def pull(address: str, folder: str) -> None:
    """Download a head, a detector or a cache from the Hugging Face hub to a new FOLDER.

    Example: featood pull hf://datasets/user/features feature_cache
    """
    from featood.hub import pull as download

    click.echo(str(download(address, folder)))
