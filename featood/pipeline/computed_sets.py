"""Storing sets whose columns are computed from those of other sets of the cache."""

from __future__ import annotations

__all__ = ["store_computed"]

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from featood.cache import ColumnSpec, FeatureCache, FeatureSet, Manifest, library_versions
from featood.cache.feature_set import Classifier
from featood.cache.reader import encode_ids


def store_computed(
    cache: FeatureCache,
    name: str,
    source: FeatureSet,
    widths: Mapping[str, int],
    compute: Callable[[slice], Mapping[str, np.ndarray]],
    recipe: Mapping[str, Any],
    *,
    run: Mapping[str, Any],
    classifier: Classifier | None = None,
    overwrite: bool = False,
    role: str = "",
) -> FeatureSet:
    """Store a set with the rows of another one, under another backbone name.

    Parameters
    ----------
    cache : FeatureCache
        Where the set is stored.
    name : str
        Backbone name of the set; dataset and split are those of the source.
    source : FeatureSet
        The set that has the rows, from a cache.
    widths : mapping of str to int
        Width of each column in float32; ``logits`` are the logits.
    compute : callable
        Returns the columns of a slice of rows.
    recipe : mapping
        Everything that determines the columns.
    run : mapping
        Further facts for the manifest.
    classifier : Classifier, optional
        Weight ``[C, D]`` and bias ``[C]``.
    overwrite : bool
        Replace a set of this name with another recipe.
    role : str
        Role of the set; by default that of the source.

    Raises
    ------
    Mismatch
        If the cache contains another set of this name.
    """
    assert source.origin is not None
    labels, role = source.labels, role or source.origin.role
    columns = {
        **{column: ColumnSpec((width,), "float32") for column, width in widths.items()},
        **({} if labels is None else {"labels": ColumnSpec((), "int64")}),
        "ids": source.origin.columns["ids"],
    }
    manifest = Manifest(
        recipe=recipe,
        data=source.origin.data,
        columns=columns,
        rows=len(source),
        store=source.origin.store,
        main=recipe["main"],
        block_rows=source.origin.block_rows,
        versions=library_versions(),
        run={"name": name, "classes": list(source.classes), **run, **({"role": role} if role else {})},
    )
    _, dataset, split = source.name.split("/")
    key = f"{name}/{dataset}/{split}"
    with cache.writer(key, manifest, classifier, overwrite) as writer:
        for block in writer.pending():
            rows = writer.span(block)
            names = encode_ids(list(source.ids[rows]), columns["ids"].shape[0])  # type: ignore[index]
            values: dict[str, Any] = {**compute(rows), "ids": names}
            if labels is not None:
                values["labels"] = labels[rows]
            writer.write(block, values)
        return writer.finish(key)
