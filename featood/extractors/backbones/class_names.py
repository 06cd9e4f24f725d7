"""The classes that published weights know, and the place of folders' names among them."""

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
    """Return the classes of one of timm's models by the number of its logits; nothing where it is no ImageNet's."""
    from featood.extractors.vision import timm

    subset = timm.data.infer_imagenet_subset(module)
    if subset is None:
        return (), ()
    info = timm.data.ImageNetInfo(subset)
    return tuple(info.label_names()), tuple(info.label_descriptions())


def torchvision_names(weights: Any) -> Names:
    """Return the classes of a member of a torchvision ``Weights`` enumeration; WordNet ids where timm is there."""
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
    """Find each of some folders' names among the classes that weights know.

    Parameters
    ----------
    folders : sequence of str
        Names, such as those of class folders.
    classes : sequence of str
        Identifiers in the order of the logits, as in ``Backbone.classes``.
    titles : sequence of str
        Readable names in the same order, synonyms after commas, as in ``Backbone.titles``; compared whatever
        the case, spaces, underscores and hyphens. First names come before synonyms; a name of several classes
        counts as unknown.

    Returns
    -------
    ndarray or None
        int64 ``[len(folders)]``, the index of each among the logits; None unless all are known and differ.
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
    """Index by name; None for a name of several."""
    table: dict[str, int | None] = {}
    for index, group in enumerate(names):
        for name in dict.fromkeys(group):
            table[name] = None if name in table else index
    return table
