"""Importing tables into the cache: their rows are the features, no backbone is run."""

from __future__ import annotations

__all__ = ["TableFile", "import_noise", "import_table", "import_table_file"]

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from featood.cache import FeatureCache, FeatureSet, slug
from featood.data import default_data_dir
from featood.data.selection import keyword_options
from featood.data.tables import Scaling, Table, read_table, separate_classes
from featood.data.tables.sets import find_table, open_table, table_noise
from featood.errors import DataError, UsageError
from featood.pipeline.selection import select
from featood.pipeline.table_writer import TABLE, TableImport, TableWriter, write_splits
from featood.readers import split_folders
from featood.reporter import SILENT, Reporter


def import_table(
    cache: FeatureCache,
    name: str,
    how: TableImport = TableImport(),  # noqa: B008  (frozen)
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
    return write_splits(cache, how, inside, {entry.ood: outside}, {"source": entry.name})


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
    how: TableImport = TableImport(),  # noqa: B008  (frozen)
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
        writer = _writer_like(cache, how, train, facts)
        return [writer.write(_fitted_to(table, writer.recipe, ood), split or "test", ood=ood)]
    outside = {}
    if ood_classes:
        table, outside[f"{how.dataset}-ood"] = separate_classes(table, ood_classes)
    return write_splits(cache, how, table, outside, facts, (split,) if split else ())


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
    return TableWriter(cache, how, origin.table, {"source": name}).write(noise, "test", ood=True)


def _reference(cache: FeatureCache, how: TableImport, ood: bool) -> FeatureSet:
    """Find the train split in the cache that a set goes with."""
    try:
        there = select(cache, *((how.backbone, "") if ood else (how.backbone_name, how.dataset)))
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


def _writer_like(
    cache: FeatureCache, how: TableImport, train: FeatureSet, facts: Mapping[str, Any]
) -> TableWriter:
    """Return the writer of a set that belongs to a train split of the cache."""
    assert train.origin is not None and train.origin.table is not None
    recipe = train.origin.table
    if how.scale not in ("", recipe["scale"]["kind"]):
        raise UsageError(f"{train.name} has the scale {recipe['scale']['kind']}, which this set takes over")
    how = dataclasses.replace(how, backbone=train.name.split("/")[0])
    return TableWriter(cache, how, recipe, facts)


def _fitted_to(table: Table, recipe: Mapping[str, Any], ood: bool) -> Table:
    """Give the rows of a table the columns, the classes and the scale of another one."""
    table = table.with_columns(recipe["columns"])
    table = table.outside() if ood else table.with_classes(recipe["classes"])
    return Scaling.from_json(recipe["scale"])(table)
