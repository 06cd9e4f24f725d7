"""Deep ensembles: joining the sets that several backbones made of the same rows."""

from __future__ import annotations

__all__ = ["COLUMN", "join_backbones", "join_sets"]

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from featood.cache import ColumnSpec, FeatureCache, FeatureSet, Manifest, library_versions
from featood.cache.reader import encode_ids
from featood.errors import DataError, Mismatch, UsageError
from featood.extractors.backbones import RANDOM
from featood.numerics.mixtures import mean_log_probabilities
from featood.pipeline.selection import select

COLUMN = "ensemble.logits"


def join_backbones(
    cache: FeatureCache, name: str, members: Sequence[str], *, dataset: str = "", overwrite: bool = False
) -> list[FeatureSet]:
    """Join every split of a dataset that all members have.

    Parameters
    ----------
    cache : FeatureCache
        Where the members' sets are, and where the joined ones go.
    name : str
        Backbone name of the joined sets.
    members : sequence of str
        Backbone names; see :func:`featood.pipeline.selection.select`.
    dataset : str
        In-distribution dataset; the newest of the first member where not given.
    overwrite : bool
        Replace sets of this name that were joined from others.

    Raises
    ------
    DataError, Mismatch, UsageError
        As :func:`join_sets`; or when the members have no split in common.
    """
    first = select(cache, members[0], dataset)
    selections = [select(cache, member, first.dataset) for member in members]
    splits = [split for split in first.entries if all(split in other.entries for other in selections)]
    if not splits:
        raise DataError(
            f"{', '.join(members)} have no split of {first.dataset} in common; extract one with each"
        )
    return [
        join_sets(cache, name, [selection.open(split) for selection in selections], overwrite=overwrite)
        for split in splits
    ]


def join_sets(
    cache: FeatureCache, name: str, sets: Sequence[FeatureSet], *, overwrite: bool = False, role: str = ""
) -> FeatureSet:
    """Join the logits that several backbones give the same rows.

    The joined set has the members' logits in one column, ``ensemble.logits`` ``[N, S * C]``, those of the first
    member first; its own logits are the logarithms of their mean probabilities.

    Parameters
    ----------
    cache : FeatureCache
        Where to.
    name : str
        Backbone name of the joined set; dataset and split stay as they are.
    sets : sequence of FeatureSet
        One of each member, from a cache.
    overwrite : bool
        Replace a set of this name that was joined from others.
    role : str
        Role of the joined set; that of the first member's where not given.

    Raises
    ------
    UsageError
        When there are fewer than two members, or one is named twice.
    DataError
        When a member has no logits.
    Mismatch
        When the members differ in rows, labels or number of classes; or the cache holds another set of the name.
    """
    backbones = [features.name.split("/")[0] for features in sets]
    if len(set(backbones)) < max(len(sets), 2):
        raise UsageError(f"an ensemble has two different members or more, not {', '.join(backbones)}")
    first = sets[0]
    assert first.origin is not None
    logits = [_aligned(first, features) for features in sets]
    classes = logits[0].shape[1]
    labels = first.labels
    columns = {
        COLUMN: ColumnSpec((len(sets) * classes,), "float32"),
        "logits": ColumnSpec((classes,), "float32"),
        **({} if labels is None else {"labels": ColumnSpec((), "int64")}),
        "ids": first.origin.columns["ids"],
    }
    recipe = {"backbone": "ensemble", "members": [features.fingerprint for features in sets], "main": COLUMN}
    run: dict[str, Any] = {"name": name, "members": backbones, "classes": list(first.classes)}
    if any(features.origin is not None and features.origin.random_weights for features in sets):
        run["weights"] = RANDOM
    role = role or first.origin.role
    manifest = Manifest(
        recipe=recipe,
        data=first.origin.data,
        columns=columns,
        rows=len(first),
        store=first.origin.store,
        main=COLUMN,
        block_rows=first.origin.block_rows,
        versions=library_versions(),
        run={**run, **({"role": role} if role else {})},
    )
    _, dataset, split = first.name.split("/")
    key = f"{name}/{dataset}/{split}"
    with cache.writer(key, manifest, None, overwrite) as writer:
        for block in writer.pending():
            rows = writer.span(block)
            parts = [torch.from_numpy(np.array(member[rows], dtype="f4")) for member in logits]
            values: dict[str, Any] = {
                COLUMN: torch.cat(parts, 1).numpy(),
                "logits": mean_log_probabilities(parts).numpy(),
                "ids": encode_ids(list(first.ids[rows]), columns["ids"].shape[0]),  # type: ignore[index]
            }
            if labels is not None:
                values["labels"] = labels[rows]
            writer.write(block, values)
        return writer.finish(key)


def _aligned(first: FeatureSet, other: FeatureSet) -> Any:
    """Return a member's logits in the order of the first member's rows."""
    if first.logits is None or other.logits is None:
        raise DataError(f"{(first if first.logits is None else other).name} has no logits to join")
    classes = other.logits.shape[1], first.logits.shape[1]
    if classes[0] != classes[1]:
        raise Mismatch(f"{other.name} has {classes[0]} classes, {first.name} has {classes[1]}")
    order = _places(_read(first.ids), _read(other.ids))
    if order is None:
        raise Mismatch(
            f"{other.name} and {first.name} do not hold the same inputs; extract both from one dataset"
        )
    unlabelled = first.labels is None or other.labels is None
    if not unlabelled and (_read(other.labels)[order] != _read(first.labels)).any():
        raise Mismatch(f"{other.name} and {first.name} give the same inputs different labels")
    in_order = (order == np.arange(len(order))).all()
    return other.logits if in_order else _read(other.logits)[order]


def _places(wanted: np.ndarray, names: np.ndarray) -> np.ndarray | None:
    """Return the position of each wanted name among the names; None where they are not the same."""
    if len(names) != len(wanted):
        return None
    if (names == wanted).all():
        return np.arange(len(names))
    by_name, place = np.argsort(names, kind="stable"), np.argsort(wanted, kind="stable")
    if (names[by_name] != wanted[place]).any():
        return None
    return by_name[np.argsort(place)]


def _read(column: Any) -> np.ndarray:
    return np.asarray(column[:])
