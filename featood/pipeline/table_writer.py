"""Writing tables into the cache: splits in the scale of their train rows, with what the next ones must agree with."""

from __future__ import annotations

__all__ = ["TABLE", "TableImport", "TableWriter", "write_splits"]

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from featood.cache import FeatureCache, FeatureSet, import_arrays, slug
from featood.data.tables import Scaling, Table, assign_parts, fit_scaling
from featood.errors import DataError, Mismatch, UsageError
from featood.pipeline.selection import OOD

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

    @property
    def backbone_name(self) -> str:
        """Name of the backbone in the cache."""
        return self.backbone or f"table-{self.dataset}"


@dataclasses.dataclass(frozen=True)
class TableWriter:
    """Writes sets that belong to one table."""

    cache: FeatureCache
    how: TableImport
    recipe: Mapping[str, Any]
    """Columns, classes and scale, which all sets of the table share."""
    facts: Mapping[str, Any]
    """Where the rows come from."""

    def write(self, table: Table, split: str, *, dataset: str = "", ood: bool = False) -> FeatureSet:
        """Write the rows of a table as a split.

        Parameters
        ----------
        table : Table
            Rows in the scale of the recipe.
        split : str
            Name of the split.
        dataset : str
            Name of the dataset, where it is not that of the table.
        ood : bool
            Whether it is an out-of-distribution set.
        """
        how = self.how
        run = {"name": how.backbone_name, TABLE: self.facts, **({"role": OOD} if ood else {})}
        return import_arrays(
            self.cache, f"{slug(how.backbone_name)}/{slug(dataset or how.dataset)}/{slug(split)}",
            {"features": table.features}, labels=table.labels, store=how.store, overwrite=how.overwrite,
            run=run, recipe={TABLE: self.recipe}, ids=table.ids, classes=table.classes,
        )  # fmt: skip


def write_splits(
    cache: FeatureCache,
    how: TableImport,
    inside: Table,
    outside: Mapping[str, Table],
    facts: Mapping[str, Any],
    names: Sequence[str] = (),
) -> list[FeatureSet]:
    """Deal the rows of a table out as splits, and write them.

    Parameters
    ----------
    cache : FeatureCache
        Where to.
    how : TableImport
        Names, parts, seed and scale.
    inside : Table
        In-distribution rows.
    outside : mapping of str to Table
        Out-of-distribution rows by dataset.
    facts : mapping
        Where the rows come from, for the manifests.
    names : sequence of str
        The split that takes all rows; by default there are those of ``how.parts``.
    """
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
    writer = TableWriter(cache, how, recipe, facts)
    return [
        *(writer.write(scaling(table), name) for name, table in splits.items()),
        *(writer.write(scaling(table), "test", dataset=name, ood=True) for name, table in outside.items()),
    ]


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


def _refuse_leftovers(cache: FeatureCache, how: TableImport, splits: Mapping[str, Table]) -> None:
    """Refuse to leave an earlier import's split beside new ones: rows of this train could be in it."""
    for entry in cache.entries():
        same = (entry.backbone, entry.dataset) == (slug(how.backbone_name), slug(how.dataset))
        if same and entry.split not in splits:
            raise Mismatch(
                f"{entry.key} is there from another import of other parts; remove {entry.folder}, or choose "
                "another --dataset"
            )
