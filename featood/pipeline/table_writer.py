"""Writing tables to the cache: splits scaled by their train rows, with columns, classes and scale in the recipe."""

from __future__ import annotations

__all__ = ["ALPHABET", "TABLE", "TableImport", "TableWriter", "write_splits"]

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from featood.cache import FeatureCache, FeatureSet, import_arrays, slug
from featood.data.tables import Scaling, Table, assign_parts, fit_scaling
from featood.errors import DataError, Mismatch, UsageError
from featood.pipeline.selection import OOD
from featood.reporter import SILENT, Reporter

TABLE = "table"
"""Key of a recipe under which a table's columns, classes and scale are stored."""
ALPHABET = "alphabet"
"""Entry of that recipe with the letters of tokens, by their numbers; absent from tables of measurements."""
PARTS = {2: ("train", "test"), 3: ("train", "val", "test")}


@dataclasses.dataclass(frozen=True)
class TableImport:
    """How a table is imported.

    Parameters
    ----------
    dataset, backbone : str
        Names in the cache; by default the name of the table and ``table-<dataset>``, which keeps tables with
        different columns apart.
    parts : sequence of float
        Shares of train, val and test, or of train and test; the split is stratified by class.
    seed : int
        Seed of the split, and of the rows of a generated table.
    scale : str
        See :func:`featood.data.tables.fit_scaling`; it is fitted on the train rows.
    store, overwrite, append
        See :func:`featood.cache.import_arrays`.
    """

    dataset: str = ""
    backbone: str = ""
    parts: Sequence[float] = (60, 20, 20)
    seed: int = 0
    scale: str = ""
    store: str = "zarr"
    overwrite: bool = False
    append: bool = False

    @property
    def backbone_name(self) -> str:
        """Name of the backbone in the cache."""
        return self.backbone or f"table-{self.dataset}"


@dataclasses.dataclass(frozen=True)
class TableWriter:
    """Writes the sets of one table."""

    cache: FeatureCache
    how: TableImport
    recipe: Mapping[str, Any]
    """Columns, classes and scale, which all sets of the table share."""
    facts: Mapping[str, Any]
    """Origin of the rows, for the manifests."""
    reporter: Reporter = SILENT
    """Receives a line about rows that are added."""

    def write(self, table: Table, split: str, *, dataset: str = "", ood: bool = False) -> FeatureSet:
        """Write the rows of a table as a split.

        Parameters
        ----------
        table : Table
            Rows, scaled by the scale of the recipe.
        split : str
            Name of the split.
        dataset : str
            Name of the dataset; by default that of the table.
        ood : bool
            Whether it is an out-of-distribution set.
        """
        how = self.how
        assert table.ids is not None
        # without names, rows that are added continue the numbers
        numbered = list(map(str, table.ids)) == list(map(str, range(len(table))))
        run = {"name": how.backbone_name, TABLE: self.facts, **({"role": OOD} if ood else {})}
        return import_arrays(
            self.cache, f"{slug(how.backbone_name)}/{slug(dataset or how.dataset)}/{slug(split)}",
            {"tokens" if table.alphabet else "features": table.features}, labels=table.labels, store=how.store,
            overwrite=how.overwrite, run=run, recipe={TABLE: self.recipe}, classes=table.classes,
            ids=None if numbered else table.ids, append=how.append, reporter=self.reporter,
        )  # fmt: skip


def write_splits(
    cache: FeatureCache,
    how: TableImport,
    inside: Table | Mapping[str, Table],
    outside: Mapping[str, Table | Mapping[str, Table]],
    facts: Mapping[str, Any],
    names: Sequence[str] = (),
) -> list[FeatureSet]:
    """Split the rows of a table, and write the splits.

    Parameters
    ----------
    cache : FeatureCache
        Where the sets are stored.
    how : TableImport
        Names, parts, seed and scale.
    inside : Table, or mapping of str to Table
        In-distribution rows; by split if the table has its own splits, train first.
    outside : mapping of str to Table, or to mapping of str to Table
        Out-of-distribution rows by dataset, in its test split; or by dataset and split.
    facts : mapping
        Origin of the rows, for the manifests.
    names : sequence of str
        Name of a single split for all rows; by default the splits of ``how.parts``.
    """
    if isinstance(inside, Table):
        splits, drawn = _divide(inside, how, names)
        facts = {**facts, "seed": how.seed, "parts": drawn}
    else:
        splits = inside
    if len(splits) > 1:
        _refuse_leftovers(cache, how, splits)
    train = next(iter(splits.values()))
    if train.alphabet and how.scale not in ("", "none"):
        raise UsageError(f"--scale {how.scale} does not apply to tokens, which are no measurements; omit it")
    scaling = _finite_scaling(how.scale or "none", train)
    recipe: dict[str, Any] = {
        "columns": list(train.columns),
        "classes": list(train.classes),
        "scale": scaling.as_json(),
    }
    if train.alphabet:
        recipe[ALPHABET] = train.alphabet
    writer = TableWriter(cache, how, recipe, facts)
    sets = [writer.write(scaling(table), name) for name, table in splits.items()]
    for dataset, rows in outside.items():
        for name, table in ({"test": rows} if isinstance(rows, Table) else rows).items():
            sets.append(writer.write(scaling(table), name, dataset=dataset, ood=True))
    return sets


def _divide(
    table: Table, how: TableImport, names: Sequence[str]
) -> tuple[Mapping[str, Table], Mapping[str, float]]:
    """Divide the rows of a table into splits at random; also return the share of each."""
    parts = [100.0] if names else list(how.parts)
    names = names or PARTS.get(len(parts), ())
    if not names or min(parts) < 0 or parts[0] <= 0 or not np.isfinite(sum(parts)):
        raise UsageError(
            "--parts are shares of train, val and test, or of train and test, such as 60,20,20 or 80,20"
        )
    assigned = assign_parts(len(table), table.labels, parts, np.random.default_rng(how.seed))
    splits = {
        name: table.take(assigned == part)
        for part, (name, share) in enumerate(zip(names, parts, strict=True))
        if share
    }
    if empty := [name for name, part in splits.items() if not len(part)]:
        raise DataError(
            f"{how.dataset} has {len(table)} rows, too few for a {empty[0]} split of this share; choose other "
            "--parts, or import all rows of a --file as one split with --split"
        )
    return splits, dict(zip(names, parts, strict=True))


def _finite_scaling(kind: str, train: Table) -> Scaling:
    """Fit the scale; raise if it overflows or underflows float64, as scaled rows would then be zero."""
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        scaling = fit_scaling(kind, train.features)
    valid = np.isfinite(scaling.shift) & np.isfinite(scaling.width) & (scaling.width > 0)
    if not valid.all():
        name = train.columns[int(np.argmin(valid))]
        raise DataError(
            f"the values of column {name!r} are too large or too small for --scale {kind}; rescale them in the file"
        )
    return scaling


def _refuse_leftovers(cache: FeatureCache, how: TableImport, splits: Mapping[str, Table]) -> None:
    """Raise if a split of an earlier import would remain: it may contain rows of the new train split."""
    for entry in cache.entries():
        same = (entry.backbone, entry.dataset) == (slug(how.backbone_name), slug(how.dataset))
        if same and entry.split not in splits:
            raise Mismatch(
                f"{entry.key} exists from an earlier import with other parts; remove {entry.folder}, or choose "
                "another --dataset"
            )
