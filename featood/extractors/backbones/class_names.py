"""Class names of published weights, and matching the names of folders with them."""

from __future__ import annotations

__all__ = ["align_classes", "imagenet_names", "torchvision_names"]

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from featood.errors import UsageError

Names = tuple[tuple[str, ...], tuple[str, ...]]
"""Identifiers (WordNet ids) and readable names, both in the order of the logits."""


def imagenet_names(module: Any) -> Names:
    """Return the classes of a timm model, inferred from its number of logits; empty if not a subset of ImageNet."""
    from featood.extractors.vision import timm

    subset = timm.data.infer_imagenet_subset(module)
    if subset is None:
        return (), ()
    info = timm.data.ImageNetInfo(subset)
    return tuple(info.label_names()), tuple(info.label_descriptions())


def torchvision_names(weights: Any) -> Names:
    """Return the classes of a member of a torchvision ``Weights`` enumeration; WordNet ids need timm."""
    titles = tuple(weights.meta.get("categories", ()))
    try:
        from featood.extractors.vision import timm

        ids = tuple(timm.data.ImageNetInfo().label_names())
    except UsageError:
        ids = titles
    return (ids if len(ids) == len(titles) else titles), titles


def align_classes(
    folders: Sequence[str], classes: Sequence[str], titles: Sequence[str] = ()
) -> np.ndarray | None:
    """Match the names of folders with the classes of weights.

    Parameters
    ----------
    folders : sequence of str
        Names, such as those of class folders.
    classes : sequence of str
        Identifiers in the order of the logits, as in ``Backbone.classes``.
    titles : sequence of str
        Readable names in the same order, with synonyms separated by commas, as in ``Backbone.titles``. Case, spaces,
        underscores and hyphens are ignored; first names precede synonyms; names shared by several classes are unknown.

    Returns
    -------
    ndarray or None
        int64 ``[len(folders)]``, the index of each among the logits; None unless all are known and distinct.
    """
    tables = (
        _table([name] for name in classes),
        _table([_plain(title.split(",")[0])] for title in titles),
        _table([_plain(name) for name in title.split(",")] for title in titles),
    )
    found = []
    for name in folders:
        keys = (name, _plain(name), _plain(name))
        index = next((table[key] for table, key in zip(tables, keys, strict=True) if key in table), None)
        if index is None:
            return None
        found.append(index)
    return np.array(found, np.int64) if found and len(set(found)) == len(found) else None


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()


def _table(names: Any) -> dict[str, int | None]:
    """Return the index of each name; None if it is shared by several classes."""
    table: dict[str, int | None] = {}
    for index, group in enumerate(names):
        for name in dict.fromkeys(group):
            table[name] = None if name in table else index
    return table
