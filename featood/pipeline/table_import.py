"""Import of tables into the cache; their rows are the features, and no backbone is run."""

from __future__ import annotations

__all__ = ["TableFile", "import_noise", "import_table", "import_table_file"]

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from featood.cache import FeatureCache, FeatureSet, slug
from featood.data import default_data_dir
from featood.data.selection import keyword_options
from featood.data.tables import Scaling, Table, read_table, separate_classes
from featood.data.tables.sets import find_table, open_table, table_noise, token_noise
from featood.errors import DataError, UsageError
from featood.pipeline.selection import select
from featood.pipeline.table_writer import ALPHABET, TABLE, TableImport, TableWriter, write_splits
from featood.readers import DNA, Tokens, split_folders
from featood.remote import is_remote, local_file
from featood.reporter import SILENT, Reporter


def import_table(
    cache: FeatureCache,
    name: str,
    how: TableImport = TableImport(),  # noqa: B008  (frozen)
    *,
    rows: int | None = None,
    data_dir: str | None = None,
) -> list[FeatureSet]:
    """Import a table by name: its splits and its out-of-distribution rows.

    Parameters
    ----------
    cache : FeatureCache
        Where the sets are stored.
    name : str
        Name of a table; see :func:`featood.data.tables.sets.find_table`.
    how : TableImport
        Names, parts, seed and scale.
    rows : int, optional
        Number of rows of a generated table.
    data_dir : str, optional
        Folder of its files.

    Returns
    -------
    list of FeatureSet
        The sets that were written.

    Raises
    ------
    DataError
        If its files do not exist.
    UsageError
        If there is no such table, or the parts are invalid or do not apply.
    Mismatch
        If the cache contains other sets with these names.
    """
    entry = find_table(name)
    if entry.divided and (how.parts, how.seed) != (TableImport.parts, TableImport.seed):
        raise UsageError(f"{entry.name} has its own splits; omit --parts and --seed")
    inside, outside = open_table(entry, data_dir or default_data_dir(), rows, how.seed)
    how = dataclasses.replace(how, dataset=how.dataset or entry.name, scale=how.scale or entry.scale)
    return write_splits(cache, how, inside, {entry.ood: outside}, {"source": entry.name})


@dataclasses.dataclass(frozen=True)
class TableFile:
    """A file with a table, and how to interpret its columns."""

    path: str
    """A file in any supported format, or its address, or the folder of a data set; see
    :func:`featood.readers.read_columns`."""
    label: str = ""
    """Name or position of the column with the classes."""
    header: bool | None = None
    """Whether the first line of a text file contains the column names."""
    drop: Sequence[str] = ()
    """Columns to leave out."""
    keep: Sequence[str] = ()
    """Columns to keep even if they look like row numbers or have no name."""
    tokens: str = ""
    """Name or position of a column of sequences, whose letters become the features as token numbers."""
    alphabet: str = ""
    """Letters by their numbers; by default those of the train split in the cache, or ``ACGT``."""
    invalid: str = "error"
    """What to do with sequences that are not valid; see :class:`featood.readers.Tokens`."""


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
    """Import a table from a file, divided into train, val and test, or all rows as one split.

    Parameters
    ----------
    cache : FeatureCache
        Where the sets are stored.
    file : TableFile
        The file. If it is the folder of a data set with splits, these splits are kept.
    how : TableImport
        Names, parts, seed and scale; by default the dataset has the name of the file.
    ood_classes : sequence of str
        Classes that are out-of-distribution; their rows become the set ``<dataset>-ood``.
    split : str
        Import all rows as this split, with the columns, classes and scale of the train split, which must be
        imported first.
    ood : bool
        Import all rows as an out-of-distribution set of the newest table, or of the table ``how.backbone``.
    reporter : Reporter
        Receives a line about each choice made.

    Raises
    ------
    DataError, UsageError, Mismatch
        As :func:`import_table`; or if the file cannot be read, or does not match the train split in the cache.
    """
    if how.append and not (split or ood):
        raise UsageError("--append adds all rows of a file to one split; name it by --split, or add --ood")
    path, address = local_file(file.path), file.path
    file = dataclasses.replace(file, path=str(path))
    how = dataclasses.replace(how, dataset=how.dataset or path.resolve().name.split(".")[0])
    if folders := split_folders(path):
        chosen = _choose_splits(file.path, folders, split, ood, ood_classes)
        written = []
        for name, folder in chosen.items():
            part = dataclasses.replace(file, path=str(folder))
            written += import_table_file(cache, part, how, split=name, ood=ood, reporter=reporter)
        return written
    facts: dict[str, Any] = {"source": address if is_remote(address) else str(path.resolve())}
    whole = ood or split not in ("", "train") or how.append
    train = _train_set(cache, how, ood) if whole else None
    columns, left_out = ((), ()) if train is None else _columns_of(train)
    tokens = _tokens(file, train)
    table = read_table(file.path, file.label, file.header, file.drop, file.keep, columns, left_out, tokens)
    for note in table.notes:
        reporter.line(f"{file.path}: {note}")
    facts["left_out"] = list(table.left_out)
    if tokens is not None:
        facts |= {"tokens": tokens.column, "invalid": tokens.invalid}
    if train is not None:
        if how.append and split == "train" and not ood:
            _check_scale(train)
        writer = dataclasses.replace(_writer_like(cache, how, train, facts), reporter=reporter)
        return [writer.write(_conform(table, writer.recipe, ood), split or "test", ood=ood)]
    outside = {}
    if ood_classes:
        table, outside[f"{how.dataset}-ood"] = separate_classes(table, ood_classes)
    return write_splits(cache, how, table, outside, facts, (split,) if split else ())


def _choose_splits(
    path: str, folders: Mapping[str, Path], split: str, ood: bool, ood_classes: Sequence[str]
) -> dict[str, Path]:
    """Choose among the splits of a data set; the train split comes first, as the others use its columns."""
    names = {
        "val" if name in ("validation", "valid", "dev") else name: folder for name, folder in folders.items()
    }
    if split and split not in names:
        raise UsageError(f"{path} has no split {split}; it has {', '.join(names)}")
    if split or (ood and len(names) == 1):
        return {split or "test": names[split or next(iter(names))]}
    if ood or ood_classes or "train" not in names:
        raise UsageError(
            f"{path} has the splits {', '.join(names)}; name one with --split, or give the folder of one"
        )
    return {"train": names["train"], **names}


def import_noise(cache: FeatureCache, reference: FeatureSet, name: str) -> FeatureSet:
    """Generate the noise ``table-noise:KIND[,n=...][,seed=...]`` with the columns of a table's set.

    For tokens, see :func:`featood.data.tables.sets.token_noise`; otherwise
    :func:`featood.data.tables.sets.table_noise`.

    Raises
    ------
    UsageError
        If there is no such kind or option.
    """
    origin = reference.origin
    assert origin is not None and origin.table is not None
    facts, alphabet = {"source": name}, origin.table.get(ALPHABET, "")
    make = token_noise if alphabet else table_noise
    options: dict[str, Any] = keyword_options(*name.partition(":")[::2], make)
    if alphabet:
        rows = token_noise(np.asarray(reference.feature()[:]), len(alphabet), **options)
        facts["rows"] = reference.name
    else:
        rows = table_noise(reference.feature().shape[1], **options)
    how = TableImport(slug(name), reference.name.split("/")[0], store=origin.store)
    noise = Table(rows, alphabet=alphabet).outside()
    return TableWriter(cache, how, origin.table, facts).write(noise, "test", ood=True)


def _tokens(file: TableFile, train: FeatureSet | None) -> Tokens | None:
    """Return how to read the sequences of a file; None if its features are measurements."""
    known = ""
    if train is not None:
        assert train.origin is not None and train.origin.table is not None
        known = train.origin.table.get(ALPHABET, "")
        if bool(known) != bool(file.tokens):
            advice = (
                "tokens; name the column of sequences with --tokens" if known else "no tokens; omit --tokens"
            )
            raise UsageError(f"{train.name} contains {advice}")
        if known and file.alphabet not in ("", known):
            raise UsageError(f"{train.name} has the alphabet {known}, as this set must have; omit --alphabet")
    return Tokens(file.tokens, file.alphabet or known or DNA, file.invalid) if file.tokens else None


def _train_set(cache: FeatureCache, how: TableImport, ood: bool) -> FeatureSet:
    """Find the train split in the cache that a set belongs to."""
    try:
        selection = select(cache, *((how.backbone, "") if ood else (how.backbone_name, how.dataset)))
        train = selection.open(selection.train_split())
    except DataError as error:
        raise DataError(f"{how.dataset} needs a train split; import that first ({error})") from None
    if train.origin is None or train.origin.table is None:
        raise UsageError(f"{train.name} is not a table; name the table to score against with --backbone")
    return train


def _columns_of(train: FeatureSet) -> tuple[Sequence[str], Sequence[str]]:
    """Return the columns of a table's set, and those of its file that were left out."""
    origin = train.origin
    assert origin is not None and origin.table is not None
    return origin.table["columns"], origin.run.get(TABLE, {}).get("left_out", ())


def _writer_like(
    cache: FeatureCache, how: TableImport, train: FeatureSet, facts: Mapping[str, Any]
) -> TableWriter:
    """Return a writer for sets that belong to a train split in the cache."""
    assert train.origin is not None and train.origin.table is not None
    recipe = train.origin.table
    if how.scale not in ("", recipe["scale"]["kind"]):
        raise UsageError(
            f"{train.name} has the scale {recipe['scale']['kind']}, and this set must use it too; omit --scale"
        )
    how = dataclasses.replace(how, backbone=train.name.split("/")[0])
    return TableWriter(cache, how, recipe, facts)


def _check_scale(train: FeatureSet) -> None:
    """Refuse to add rows to a train split whose scale depends on its rows."""
    assert train.origin is not None and train.origin.table is not None
    if (kind := train.origin.table["scale"]["kind"]) != "none":
        raise UsageError(
            f"the scale {kind} of {train.name} was fitted on its rows, and more rows change it; import all rows again "
            "with --overwrite"
        )


def _conform(table: Table, recipe: Mapping[str, Any], ood: bool) -> Table:
    """Convert a table to the columns, classes and scale of a recipe."""
    table = table.with_columns(recipe["columns"])
    table = table.outside() if ood else table.with_classes(recipe["classes"])
    return Scaling.from_json(recipe["scale"])(table)
