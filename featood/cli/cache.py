"""``featood cache``: ls, verify, duplicates, gc, rm, export, join, add-classifier, migrate."""

from __future__ import annotations

__all__ = ["cache"]

from typing import TYPE_CHECKING, Any

import rich_click as click

from featood.cli.common import (
    SHARE,
    CacheRoot,
    backbone_option,
    cache_option,
    dataset_option,
    emit_json,
    table,
)
from featood.cli.completion import backbones_in_cache, keys_in_cache
from featood.reporter import TerminalReporter, print_line

if TYPE_CHECKING:
    from featood.cache import CacheEntry


@click.group()
def cache() -> None:
    """Manage the feature cache."""


@cache.command("ls")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@cache_option
def ls(cache_root: str, as_json: bool) -> None:
    """List the cached sets, newest first."""
    from featood.cache import open_cache

    rows = [_described(entry) for entry in open_cache(cache_root).entries()]
    if as_json:
        emit_json(rows)
        return
    table(
        ("set", "rows", "classes", "store", "MB", "state", "fingerprint"),
        [
            (
                row["key"],
                row["rows"] or "-",
                len(row["classes"]) or "-",
                row["store"] or "-",
                f"{row['bytes'] / 1e6:.1f}",
                row["state"]
                if row["state"] != "incomplete"
                else f"{row['blocks'][0]}/{row['blocks'][1]} blocks",
                (row["backbone_fingerprint"] or "-")[:12],
            )
            for row in rows
        ],
    )
    for row in rows:
        if row["damage"]:
            print_line(f"warning: {row['key']} cannot be read: {row['damage']}")


def _described(entry: CacheEntry) -> dict[str, Any]:
    """Describe a set for a listing; for a damaged set, only its key and folder are known."""
    known: dict[str, Any] = dict.fromkeys(("rows", "columns", "store", "blocks", "fingerprint"))
    known |= {"backbone_fingerprint": None, "role": None, "classes": []}
    if entry.damage is None:
        manifest = entry.manifest
        known = {
            "rows": manifest.rows,
            "columns": {name: list(spec.shape) for name, spec in manifest.columns.items()},
            "store": manifest.store,
            "blocks": [entry.committed, manifest.blocks],
            "fingerprint": manifest.fingerprint,
            "backbone_fingerprint": manifest.backbone_fingerprint,
            "role": manifest.run.get("role", "id"),
            "classes": list(manifest.classes),
        }
    return {
        "key": entry.key,
        "state": "damaged" if entry.damage else "complete" if entry.complete else "incomplete",
        "complete": entry.complete,
        "damage": str(entry.damage or ""),
        "bytes": entry.bytes,
        "created": entry.created,
        **known,
    }


@cache.command()
@click.argument("keys", nargs=-1, shell_complete=keys_in_cache)
@click.option("--drop", is_flag=True, help="Drop the bad blocks, so that they can be extracted again.")
@cache_option
def verify(keys: tuple[str, ...], drop: bool, cache_root: str) -> None:
    """Read every block of KEYS (default: all sets) and check every value."""
    from featood.cache import open_cache
    from featood.errors import CacheCorrupt

    opened = open_cache(cache_root)
    bad = 0
    with TerminalReporter() as reporter:
        for key in opened.keys(keys):
            problems = opened.verify(key, drop, reporter.task(key))
            for problem in problems:
                click.echo(f"bad: {problem}")
            if not problems:
                click.echo(f"good: {key}")
            bad += len(problems)
    if bad:
        raise CacheCorrupt(
            f"{bad} bad blocks or sets"
            + (
                " were dropped; extract again"
                if drop
                else "; --drop drops them, so that they can be extracted again"
            )
        )


@cache.command()
@click.argument("keys", nargs=-1, shell_complete=keys_in_cache)
@click.option("--split", default="", help="In-distribution split to compare with (default: train).")
@click.option("--feature", default="", help="Feature column (default: the input of the classifier).")
@click.option(
    "--cosine", type=click.FloatRange(-1, 1), help="Smallest cosine of near duplicates (default: by --share)."
)
@click.option(
    "--share", type=SHARE, default=0.001, show_default=True,
    help="Share of the training rows that are at least as near to another one; this determines the threshold.",
)  # fmt: skip
@click.option(
    "--pairs",
    type=click.IntRange(0),
    default=10,
    show_default=True,
    help="Number of pairs to print for each set.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with all pairs.")
@dataset_option
@backbone_option
@cache_option
def duplicates(
    keys: tuple[str, ...], split: str, feature: str, cosine: float | None, share: float, pairs: int,
    as_json: bool, dataset: str, backbone: str, cache_root: str,
) -> None:  # fmt: skip
    """Find rows of the sets KEYS that are near duplicates of training rows (default: all other sets of the backbone).

    Near are rows whose features have a larger cosine with a training row than nearly all training rows have with each
    other. Whether they are leaks, only the images show.

    Example: featood cache duplicates --dataset cifar10
    """
    from featood.cache import open_cache
    from featood.errors import UsageError
    from featood.pipeline.duplicates import find_duplicates
    from featood.pipeline.selection import select

    opened = open_cache(cache_root)
    selection = select(opened, backbone, dataset)
    train = selection.open(selection.train_split(split))
    entries = opened.matching(keys)
    if not keys:
        mine = [entry for entry in opened.entries() if entry.backbone == selection.backbone]
        entries = [entry for entry in mine if entry.complete]
        for entry in mine:
            if not entry.complete:
                print_line(f"{entry.key} is left out: it is incomplete or damaged")
    others = [opened[key] for key in sorted(entry.key for entry in entries) if key != train.name]
    if not others:
        raise UsageError(f"there is no set to compare with {train.name}; extract or import one")
    with TerminalReporter() as reporter, reporter.working(f"comparing {len(others)} sets with {train.name}"):
        threshold, found = find_duplicates(train, others, cosine, share=share, feature=feature)
    if as_json:
        emit_json({
            "train": train.name, "rows": len(train), "cosine": threshold,
            "share": share if cosine is None else None,
            "sets": [
                {"set": one.name, "rows": one.rows, "near": len(one.pairs), "largest": one.largest,
                 "pairs": [pair._asdict() for pair in one.pairs]}
                for one in found
            ],
        })  # fmt: skip
        return
    table(
        ("set", "rows", "near", "%", "largest cosine"),
        [
            (one.name, one.rows, len(one.pairs), f"{100 * len(one.pairs) / max(1, one.rows):.2f}", f"{one.largest:.6f}")
            for one in found
        ],
    )  # fmt: skip
    for one in found:
        for pair in one.pairs[:pairs]:
            click.echo(f"{one.name}: {pair.id} is near {pair.train_id} (cosine {pair.cosine:.6f})")
    how = "as given" if cosine is not None else f"as {share:.4g} of its rows are to another"
    print_line(f"near: cosine of at least {threshold:.6f} with a row of {train.name}, {how}")


@cache.command()
@click.option("--incomplete", is_flag=True, help="Also remove incomplete sets.")
@click.option(
    "--older-than",
    default=3600.0,
    show_default=True,
    help="Keep files that changed within this many seconds.",
)
@click.option("--dry-run", is_flag=True, help="Only print what would be removed.")
@cache_option
def gc(incomplete: bool, older_than: float, dry_run: bool, cache_root: str) -> None:
    """Remove leftover files of killed processes; never a set that is being written."""
    from featood.cache import open_cache

    opened = open_cache(cache_root)
    rubbish = opened.garbage(incomplete, older_than)
    for path in rubbish:
        click.echo(path)
    left = [] if dry_run else opened.collect(rubbish)
    for path in left:
        print_line(f"{path} is kept: a process is writing it or has just finished it")
    print_line(f"{len(rubbish) - len(left)} {'would be ' if dry_run else ''}removed")


@cache.command("rm")
@click.argument("keys", nargs=-1, required=True, shell_complete=keys_in_cache)
@click.option("--yes", is_flag=True, help="Remove without asking.")
@cache_option
def remove(keys: tuple[str, ...], yes: bool, cache_root: str) -> None:
    """Remove the sets KEYS (backbone/dataset or backbone/dataset/split), damaged or not; fitted heads are kept.

    Example: featood cache rm resnet50/textures
    """
    import sys

    from featood.cache import open_cache
    from featood.errors import UsageError

    opened = open_cache(cache_root)
    entries = opened.matching(keys)
    for entry in entries:
        rows = "unreadable" if entry.damage else f"{entry.manifest.rows:,} rows"
        click.echo(f"{entry.key}: {rows}, {entry.bytes / 1e6:.1f} MB")
    for place in dict.fromkeys((entry.backbone, entry.dataset) for entry in entries):
        if fitted := opened.fitted_heads(*place):
            click.echo(f"heads fitted on {'/'.join(place)}, which are kept: {', '.join(fitted)}")
    total = (
        f"{len(entries)} set{'s' * (len(entries) > 1)}, {sum(entry.bytes for entry in entries) / 1e6:.1f} MB"
    )
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError(f"{total} would be removed; add --yes to remove them")
        click.confirm(f"remove {total}?", abort=True)
    opened.remove([entry.key for entry in entries])
    print_line(f"{total} removed")


@cache.command()
@cache_option
def migrate(cache_root: str) -> None:
    """Convert sets and fitted heads of earlier versions to the current format.

    Every value is checked and none is changed. Damaged sets and heads are listed and left unchanged.
    """
    from featood.cache import open_cache
    from featood.errors import CacheCorrupt
    from featood.pipeline.migration import migrate_cache

    with TerminalReporter() as reporter:
        migration = migrate_cache(open_cache(cache_root), reporter=reporter)
    for what in migration.changed:
        click.echo(f"migrated: {what}")
    for problem in migration.problems:
        click.echo(f"bad: {problem}")
    print_line(f"{len(migration.changed)} migrated, {migration.current} already had the current format")
    if migration.problems:
        raise CacheCorrupt(
            f"{len(migration.problems)} sets or heads could not be migrated; the lines above say why"
        )


@cache.command()
@click.argument("key", shell_complete=keys_in_cache)
@click.argument("target", type=CacheRoot(file_okay=False))
@click.option("--format", "form", type=click.Choice(["zarr", "hdf5", "npy"]), required=True)
@cache_option
def export(key: str, target: str, form: str, cache_root: str) -> None:
    """Copy the set KEY (backbone/dataset/split) to TARGET: another cache, also on object storage, or npy files."""
    from featood.cache import export_set, open_cache

    click.echo(export_set(open_cache(cache_root), key, target, form))


@cache.command()
@click.argument("name")
@click.argument("members", nargs=-1, required=True)
@click.option(
    "--overwrite", is_flag=True, help="Replace a set of this name that was joined from other members."
)
@dataset_option
@cache_option
def join(name: str, members: tuple[str, ...], overwrite: bool, dataset: str, cache_root: str) -> None:
    """Join the sets of the backbones MEMBERS to a backbone NAME, for deep-ensemble and waic.

    Example: featood cache join three-resnets run1 run2 run3
    """
    from featood.cache import open_cache
    from featood.pipeline.ensembles import join_backbones

    joined = join_backbones(open_cache(cache_root), name, members, dataset=dataset, overwrite=overwrite)
    for features in joined:
        columns = ", ".join(f"{column} {values.shape[1]}" for column, values in features.features.items())
        click.echo(f"{features.name}: {len(features)} rows of {len(members)} members; {columns}")


@cache.command("add-classifier")
@click.argument("name")
@click.argument("backbone", shell_complete=backbones_in_cache)
@click.option("--feature", default="", help="Column of features (default: the main one).")
@click.option(
    "--classifier", type=click.Path(exists=True, dir_okay=False),
    help="File with arrays 'weight' [C, D] and optionally 'bias' [C], such as embeddings of the class names "
    "(default: logistic regression on the train split).",
)  # fmt: skip
@click.option("--unit", is_flag=True, help="Scale the features to length 1 first, as for cosines.")
@click.option(
    "--l2", type=click.FloatRange(0, min_open=True), default=1.0, show_default=True,
    help="Weight of the squared weights in the regression.",
)  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace sets of this name that have another classifier.")
@dataset_option
@cache_option
def add_classifier(
    name: str, backbone: str, feature: str, classifier: str | None, unit: bool, l2: float, overwrite: bool,
    dataset: str, cache_root: str,
) -> None:  # fmt: skip
    """Add logits to the features of BACKBONE, as sets of a backbone NAME, for heads that need logits or a classifier.

    Example: featood cache add-classifier dino-probe dino --feature token_avg
    """
    from featood.cache import open_cache
    from featood.cache.array_files import read_classifier
    from featood.pipeline import added_classifiers
    from featood.pipeline.extraction import known_accuracy

    with TerminalReporter() as reporter:
        added = added_classifiers.add_classifier(
            open_cache(cache_root), name, backbone, dataset=dataset, feature=feature, unit=unit, l2=l2,
            classifier=read_classifier(classifier) if classifier else None, overwrite=overwrite, reporter=reporter,
        )  # fmt: skip
    for features in added:
        assert features.logits is not None
        line = f"{features.name}: {len(features)} rows; {features.main} {features.feature().shape[1]}"
        share = known_accuracy(features)
        accuracy = "" if share is None else f"; accuracy {share:.4f}"
        click.echo(f"{line}; logits {features.logits.shape[1]}{accuracy}")
