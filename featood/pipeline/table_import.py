"""Importing tables into the cache: their rows are the features, no backbone is run."""

from __future__ import annotations

__all__ = ["TABLE", "TableFile", "TableImport", "import_noise", "import_table", "import_table_file"]

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from featood.cache import FeatureCache, FeatureSet, import_arrays, slug
from featood.data import default_data_dir
from featood.data.selection import keyword_options
from featood.data.tables import Scaling, Table, assign_parts, fit_scaling, read_table, separate_classes
from featood.data.tables.sets import find_table, open_table, table_noise
from featood.errors import DataError, Mismatch, UsageError
from featood.pipeline.selection import OOD, select
from featood.readers import split_folders
from featood.reporter import SILENT, Reporter

TABLE = "table"
"""Entry of a recipe with a table's columns, classes and scale."""
PARTS = {2: ("train", "test"), 3: ("train", "val", "test")}


@dataclasses.dataclass(frozen=True)
class TableImport:
    """How a table is imported.

    Parameters
    ----------
    dataset, backbone : str
        Names in the cache; by default that of the table, and ``table-<dataset>``, so that tables of
        different columns never meet.
    parts : sequence of float
        Shares of train, val and test, or of train and test; every class is dealt out in these shares.
    seed : int
        Decides which row goes where, and draws a generated table.
    scale : str
        See :func:`featood.data.tables.fit_scaling`; it is fitted on the train rows.
    store, overwrite
        See :func:`featood.cache.import_arrays`.
    """

    dataset: str = ""
    backbone: str = ""
    parts: Sequence[float] = (60, 20, 20)
    seed: int = 0
    scale: str = ""
    store: str = "zarr"
    overwrite: bool = False


def import_table(
    cache: FeatureCache,
    name: str,
    how: TableImport = TableImport(),
    *,
    rows: int | None = None,
    data_dir: str | None = None,
) -> list[FeatureSet]:
    """Import a table that is known by name: its splits, and its out-of-distribution rows.

    Parameters
    ----------
    cache : FeatureCache
        Where to.
    name : str
        See :func:`featood.data.tables.sets.find_table`.
    how : TableImport
        Names, parts, seed and scale.
    rows : int, optional
        Rows of a generated table.
    data_dir : str, optional
        Where its files are.

    Returns
    -------
    list of FeatureSet
        The sets that were written.

    Raises
    ------
    DataError
        When its files are not there.
    UsageError
        When there is no such table, or the parts make no sense.
    Mismatch
        When the cache holds other sets under these names.
    """
    entry = find_table(name)
    inside, outside = open_table(entry, data_dir or default_data_dir(), rows, how.seed)
    how = dataclasses.replace(how, dataset=how.dataset or entry.name, scale=how.scale or entry.scale)
    return _write_splits(cache, how, inside, {entry.ood: outside}, {"source": entry.name})


@dataclasses.dataclass(frozen=True)
class TableFile:
    """A file with a table, and which of its columns are what."""

    path: str
    """A file of any format that is read, or the folder of a data set; see :func:`featood.data.tables.read_table`."""
    label: str = ""
    """The column of classes: its name or position."""
    header: bool | None = None
    """Whether the first line of a text names the columns."""
    drop: Sequence[str] = ()
    """Columns to leave out."""
    keep: Sequence[str] = ()
    """Columns to take although they look like row numbers or have no name."""


def import_table_file(
    cache: FeatureCache,
    file: TableFile,
    how: TableImport = TableImport(),
    *,
    ood_classes: Sequence[str] = (),
    split: str = "",
    ood: bool = False,
    reporter: Reporter = SILENT,
) -> list[FeatureSet]:
    """Import a table from a file, dealt out as train, val and test, or whole as one split.

    Parameters
    ----------
    cache : FeatureCache
        Where to.
    file : TableFile
        The file. The folder of a data set that has splits of its own keeps them.
    how : TableImport
        Names, parts, seed and scale; the dataset is called after the file by default.
    ood_classes : sequence of str
        Classes that are out-of-distribution: their rows become the set ``<dataset>-ood``.
    split : str
        Import the whole file as this split; columns, classes and scale are those of the train split, which
        comes first.
    ood : bool
        Import the whole file as an out-of-distribution set, to be scored against the newest table, or that of
        ``how.backbone``.
    reporter : Reporter
        Takes a line about each choice made.

    Raises
    ------
    DataError, UsageError, Mismatch
        As :func:`import_table`; or when the file cannot be read, or does not go with the rows in the cache.
    """
    path = Path(file.path)
    how = dataclasses.replace(how, dataset=how.dataset or path.resolve().name.split(".")[0])
    if folders := split_folders(path):
        chosen = _own_splits(file.path, folders, split, ood, ood_classes)
        written = []
        for name, folder in chosen.items():
            part = dataclasses.replace(file, path=str(folder))
            written += import_table_file(cache, part, how, split=name, ood=ood, reporter=reporter)
        return written
    facts: dict[str, Any] = {"source": str(path.resolve())}
    whole = ood or split not in ("", "train")
    train = _reference(cache, how, ood) if whole else None
    like, unlike = ((), ()) if train is None else _columns_of(train)
    table = read_table(file.path, file.label, file.header, file.drop, file.keep, like, unlike)
    for note in table.notes:
        reporter.line(f"{file.path}: {note}")
    facts["left_out"] = list(table.left_out)
    if train is not None:
        return [_write_whole(cache, how, table, train, split or "test", ood, facts)]
    outside = {}
    if ood_classes:
        table, outside[f"{how.dataset}-ood"] = separate_classes(table, ood_classes)
    return _write_splits(cache, how, table, outside, facts, (split,) if split else ())


def _own_splits(
    path: str, folders: Mapping[str, Path], split: str, ood: bool, ood_classes: Sequence[str]
) -> dict[str, Path]:
    """Choose among the splits that a data set has, the train split first: the others take over its columns."""
    names = {
        "val" if name in ("validation", "valid", "dev") else name: folder for name, folder in folders.items()
    }
    if split and split not in names:
        raise UsageError(f"{path} has no split {split}; it has {', '.join(names)}")
    if split or (ood and len(names) == 1):
        return {split or "test": names[split or next(iter(names))]}
    if ood or ood_classes or "train" not in names:
        raise UsageError(
            f"{path} has the splits {', '.join(names)}; name one with --split, or the folder of one"
        )
    return {"train": names["train"], **names}


def import_noise(cache: FeatureCache, reference: FeatureSet, name: str) -> FeatureSet:
    """Make the noise ``table-noise:KIND[,n=...][,seed=...]`` as wide as a table's set.

    Raises
    ------
    UsageError
        When there is no such kind or option.
    """
    options: dict[str, Any] = keyword_options(*name.partition(":")[::2], table_noise)
    noise = Table(table_noise(reference.feature().shape[1], **options)).outside()
    origin = reference.origin
    assert origin is not None and origin.table is not None
    how = TableImport(slug(name), reference.name.split("/")[0], store=origin.store)
    return _write(cache, how, noise, "test", origin.table, {"source": name}, OOD)


def _write_splits(
    cache: FeatureCache,
    how: TableImport,
    inside: Table,
    outside: Mapping[str, Table],
    facts: Mapping[str, Any],
    names: Sequence[str] = (),
) -> list[FeatureSet]:
    """Write train and whatever else there is; `names` are the splits, where the parts do not say."""
    parts = [100.0] if names else list(how.parts)
    names = names or PARTS.get(len(parts), ())
    if not names or min(parts) < 0 or parts[0] <= 0 or not np.isfinite(sum(parts)):
        raise UsageError(
            "--parts are shares of train, val and test, or of train and test, such as 60,20,20 or 80,20"
        )
    place = assign_parts(len(inside), inside.labels, parts, np.random.default_rng(how.seed))
    splits = {
        name: inside.take(place == part)
        for part, (name, share) in enumerate(zip(names, parts, strict=True))
        if share
    }
    if empty := [name for name, table in splits.items() if not len(table)]:
        raise DataError(
            f"{how.dataset} has {len(inside)} rows, too few for a {empty[0]} split of this share; choose other "
            "--parts, or import a --file whole with --split"
        )
    if len(splits) > 1:
        _refuse_leftovers(cache, how, splits)
    scaling = _sound_scaling(how.scale or "none", splits["train"])
    recipe = {
        "columns": list(inside.columns),
        "classes": list(inside.classes),
        "scale": scaling.as_json(),
    }
    facts = {**facts, "seed": how.seed, "parts": dict(zip(names, parts, strict=True))}
    written = [_write(cache, how, scaling(table), name, recipe, facts) for name, table in splits.items()]
    for name, table in outside.items():
        whose = dataclasses.replace(how, dataset=name, backbone=_backbone(how))
        written.append(_write(cache, whose, scaling(table), "test", recipe, facts, OOD))
    return written


def _sound_scaling(kind: str, train: Table) -> Scaling:
    """Fit the scale, and refuse one that float64 cannot hold: it would turn rows into zeros."""
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        scaling = fit_scaling(kind, train.features)
    sound = np.isfinite(scaling.shift) & np.isfinite(scaling.width) & (scaling.width > 0)
    if not sound.all():
        name = train.columns[int(np.argmin(sound))]
        raise DataError(
            f"the values of column {name!r} are too large or too small for --scale {kind}; rescale them in the file"
        )
    return scaling


def _reference(cache: FeatureCache, how: TableImport, ood: bool) -> FeatureSet:
    """Find the train split in the cache that a set goes with."""
    try:
        there = select(cache, *((how.backbone, "") if ood else (_backbone(how), how.dataset)))
        train = there.open(there.train_split())
    except DataError as error:
        raise DataError(f"{how.dataset} goes with a train split, which is imported first ({error})") from None
    if train.origin is None or train.origin.table is None:
        raise UsageError(
            f"{train.name} is no table; name the one that this is scored against with --backbone"
        )
    return train


def _columns_of(train: FeatureSet) -> tuple[Sequence[str], Sequence[str]]:
    """Names of a table's features, and of what its file had besides."""
    origin = train.origin
    assert origin is not None and origin.table is not None
    return origin.table["columns"], origin.run.get(TABLE, {}).get("left_out", ())


def _write_whole(
    cache: FeatureCache,
    how: TableImport,
    table: Table,
    train: FeatureSet,
    split: str,
    ood: bool,
    facts: Mapping[str, Any],
) -> FeatureSet:
    """Write a set that goes with a train split in the cache."""
    assert train.origin is not None and train.origin.table is not None
    recipe = train.origin.table
    if how.scale not in ("", recipe["scale"]["kind"]):
        raise UsageError(f"{train.name} has the scale {recipe['scale']['kind']}, which this set takes over")
    table = table.with_columns(recipe["columns"])
    table = table.outside() if ood else table.with_classes(recipe["classes"])
    how = dataclasses.replace(how, backbone=train.name.split("/")[0])
    return _write(
        cache, how, Scaling.from_json(recipe["scale"])(table), split, recipe, facts, OOD if ood else ""
    )


def _write(
    cache: FeatureCache,
    how: TableImport,
    table: Table,
    split: str,
    recipe: Mapping[str, Any],
    facts: Mapping[str, Any],
    role: str = "",
) -> FeatureSet:
    run = {"name": _backbone(how), TABLE: facts, **({"role": role} if role else {})}
    return import_arrays(
        cache, f"{slug(_backbone(how))}/{slug(how.dataset)}/{slug(split)}", {"features": table.features},
        labels=table.labels, store=how.store, overwrite=how.overwrite, run=run, recipe={TABLE: recipe}, ids=table.ids,
        classes=table.classes,
    )  # fmt: skip


def _backbone(how: TableImport) -> str:
    return how.backbone or f"table-{how.dataset}"


def _refuse_leftovers(cache: FeatureCache, how: TableImport, splits: Mapping[str, Table]) -> None:
    """Refuse to leave an earlier import's split beside new ones: rows of this train could be in it."""
    for entry in cache.entries():
        same = (entry.backbone, entry.dataset) == (slug(_backbone(how)), slug(how.dataset))
        if same and entry.split not in splits:
            raise Mismatch(
                f"{entry.key} is there from another import of other parts; remove {entry.folder}, or choose "
                "another --dataset"
            )
