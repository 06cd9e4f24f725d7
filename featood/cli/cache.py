"""``featood cache``: ls, verify, gc, export, join."""

from __future__ import annotations

__all__ = ["cache"]

import functools

import rich_click as click

from featood.cli.common import cache_option, dataset_option, emit_json, say, table
from featood.progress import progress_bar


@click.group()
def cache() -> None:
    """Look after the feature cache."""


@cache.command("ls")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@cache_option
def ls(cache_root: str, as_json: bool) -> None:
    """List the cached sets, newest first."""
    from featood.cache import open_cache

    entries = open_cache(cache_root).entries()
    rows = [
        {
            "key": entry.key,
            "rows": entry.manifest.rows,
            "columns": {name: list(spec.shape) for name, spec in entry.manifest.columns.items()},
            "store": entry.manifest.store,
            "bytes": entry.bytes,
            "complete": entry.complete,
            "blocks": [entry.committed, entry.manifest.blocks],
            "created": entry.created,
            "fingerprint": entry.manifest.fingerprint,
            "backbone_fingerprint": entry.manifest.backbone_fingerprint,
            "role": entry.manifest.run.get("role", "id"),
            "classes": list(entry.manifest.classes),
        }
        for entry in entries
    ]
    if as_json:
        emit_json(rows)
        return
    table(
        ("set", "rows", "classes", "store", "MB", "state", "fingerprint"),
        [
            (
                row["key"],
                row["rows"],
                len(row["classes"]) or "-",
                row["store"],
                f"{row['bytes'] / 1e6:.1f}",
                "complete" if row["complete"] else f"{row['blocks'][0]}/{row['blocks'][1]} blocks",
                row["backbone_fingerprint"][:12],
            )
            for row in rows
        ],
    )


@cache.command()
@click.argument("keys", nargs=-1)
@click.option("--drop", is_flag=True, help="Forget the bad blocks, so that extracting again redoes them.")
@cache_option
def verify(keys: tuple[str, ...], drop: bool, cache_root: str) -> None:
    """Read every block of KEYS (default: all sets) and check every value."""
    from featood.cache import open_cache
    from featood.errors import CacheCorrupt

    opened = open_cache(cache_root)
    bad = 0
    with progress_bar() as progress:
        for key in opened.keys(keys):
            problems = opened.verify(key, drop, functools.partial(progress, key))
            for problem in problems:
                click.echo(f"bad: {problem}")
            if not problems:
                click.echo(f"good: {key}")
            bad += len(problems)
    if bad:
        raise CacheCorrupt(f"{bad} bad blocks or sets" + (" were dropped; extract again" if drop else ""))


@cache.command()
@click.option("--incomplete", is_flag=True, help="Remove unfinished sets too.")
@click.option(
    "--older-than",
    default=3600.0,
    show_default=True,
    help="Leave alone what changed within this many seconds.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@cache_option
def gc(incomplete: bool, older_than: float, dry_run: bool, cache_root: str) -> None:
    """Remove what killed processes left behind; never a set that is being written."""
    from featood.cache import open_cache

    opened = open_cache(cache_root)
    rubbish = opened.garbage(incomplete, older_than)
    for path in rubbish:
        click.echo(path)
    left = [] if dry_run else opened.collect(rubbish)
    for path in left:
        say(f"{path} is left alone: a process is writing it, or has finished it by now")
    say(f"{len(rubbish) - len(left)} {'would be ' if dry_run else ''}removed")


@cache.command()
@click.argument("key")
@click.argument("target", type=click.Path(file_okay=False))
@click.option("--format", "form", type=click.Choice(["zarr", "hdf5", "npy"]), required=True)
@cache_option
def export(key: str, target: str, form: str, cache_root: str) -> None:
    """Copy the set KEY (backbone/dataset/split) to TARGET: another cache, or npy files."""
    from pathlib import Path

    from featood.cache import export_set, open_cache

    click.echo(export_set(open_cache(cache_root), key, Path(target), form))


@cache.command()
@click.argument("name")
@click.argument("members", nargs=-1, required=True)
@click.option("--overwrite", is_flag=True, help="Replace what was joined from others under this name.")
@dataset_option
@cache_option
def join(name: str, members: tuple[str, ...], overwrite: bool, dataset: str, cache_root: str) -> None:
    """Join the sets of the backbones MEMBERS as a backbone NAME, for deep-ensemble.

    Example: featood cache join three-resnets run1 run2 run3
    """
    from featood.cache import open_cache
    from featood.engine.joining import join_backbones

    for features in join_backbones(open_cache(cache_root), name, members, dataset, overwrite):
        click.echo(f"{features.name}: {len(features)} rows of {len(members)} members")
