"""Deep ensembles: joining sets of the same rows from several backbones."""

from __future__ import annotations

__all__ = ["COLUMN", "aligned_logits", "join_backbones", "join_sets"]

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from featood.cache import FeatureCache, FeatureSet
from featood.cache.densities import DENSITIES
from featood.errors import DataError, Mismatch, UsageError
from featood.extractors.backbones import RANDOM
from featood.numerics.mixtures import mean_log_probabilities
from featood.pipeline.computed_sets import store_computed
from featood.pipeline.selection import select

PREFIX = "ensemble."
COLUMN = f"{PREFIX}logits"


def join_backbones(
    cache: FeatureCache, name: str, members: Sequence[str], *, dataset: str = "", overwrite: bool = False
) -> list[FeatureSet]:
    """Join every split of a dataset that all members have.

    Parameters
    ----------
    cache : FeatureCache
        Contains the members' sets; the joined sets are added to it.
    name : str
        Backbone name of the joined sets.
    members : sequence of str
        Backbone names; see :func:`featood.pipeline.selection.select`.
    dataset : str
        In-distribution dataset; by default the newest of the first member.
    overwrite : bool
        Replace sets of this name that were joined from other members.

    Raises
    ------
    DataError, Mismatch, UsageError
        As :func:`join_sets`; or if the members have no split in common.
    """
    first = select(cache, members[0], dataset)
    selections = [select(cache, member, first.dataset) for member in members]
    splits = [split for split in first.entries if all(split in other.entries for other in selections)]
    if not splits:
        raise DataError(
            f"{', '.join(members)} have no split of {first.dataset} in common; extract the same split with each"
        )
    return [
        join_sets(cache, name, [selection.open(split) for selection in selections], overwrite=overwrite)
        for split in splits
    ]


def join_sets(
    cache: FeatureCache, name: str, sets: Sequence[FeatureSet], *, overwrite: bool = False, role: str = ""
) -> FeatureSet:
    """Join the logits and the densities of several backbones for the same rows.

    The column ``ensemble.logits`` ``[N, S * C]`` of the joined set contains the members' logits in order; its
    ``logits`` are the logarithms of the mean probabilities. The columns ``ensemble.log-density`` ``[N, S]``,
    ``ensemble.evidence-bound`` and ``ensemble.energy`` contain the members' densities, if all have one. Logits are left
    out if only some members have them, but all have a density.

    Parameters
    ----------
    cache : FeatureCache
        Where the joined set is stored.
    name : str
        Backbone name of the joined set; dataset and split are unchanged.
    sets : sequence of FeatureSet
        One set per member, from a cache.
    overwrite : bool
        Replace a set of this name that was joined from other members.
    role : str
        Role of the joined set; by default that of the first member's set.

    Raises
    ------
    UsageError
        If there are fewer than two members, or one is named twice.
    DataError
        If not all members have logits, nor all the same kind of density.
    Mismatch
        If the members differ in rows, labels or number of classes, or the cache contains another set of this name.
    """
    backbones = [features.name.split("/")[0] for features in sets]
    if len(set(backbones)) < max(len(sets), 2):
        raise UsageError(f"an ensemble needs at least two different members, got {', '.join(backbones)}")
    first = sets[0]
    densities = [name for name in DENSITIES if all(name in features.features for features in sets)]
    joined = {
        PREFIX + name: [aligned(first, features, features.feature(name)) for features in sets]
        for name in densities
    }
    if not densities or all(features.logits is not None for features in sets):
        joined = {COLUMN: [aligned_logits(first, features) for features in sets], **joined}
    widths = {name: sum(member.shape[1] for member in members) for name, members in joined.items()}
    if COLUMN in joined:
        widths["logits"] = widths[COLUMN] // len(sets)
    main = next(iter(joined))
    recipe = {"backbone": "ensemble", "members": [features.fingerprint for features in sets], "main": main}
    run: dict[str, Any] = {"members": backbones}
    if any(features.origin is not None and features.origin.random_weights for features in sets):
        run["weights"] = RANDOM

    def compute(rows: slice) -> dict[str, np.ndarray]:
        parts = {
            name: [torch.from_numpy(np.array(member[rows], dtype="f4")) for member in members]
            for name, members in joined.items()
        }
        values = {name: torch.cat(members, 1).numpy() for name, members in parts.items()}
        if COLUMN in parts:
            values["logits"] = mean_log_probabilities(parts[COLUMN]).numpy()
        return values

    return store_computed(
        cache, name, first, widths, compute, recipe, run=run, overwrite=overwrite, role=role
    )


def aligned_logits(first: FeatureSet, other: FeatureSet) -> Any:
    """Return a member's logits ``[N, C]`` in the order of the first member's rows.

    Raises
    ------
    DataError
        If a member has no logits.
    Mismatch
        If the members differ in rows, labels or number of classes.
    """
    if first.logits is None or other.logits is None:
        raise DataError(
            f"{(first if first.logits is None else other).name} has no logits to join; extract it "
            "again with a classifier"
        )
    classes = other.logits.shape[1], first.logits.shape[1]
    if classes[0] != classes[1]:
        raise Mismatch(
            f"{other.name} has {classes[0]} classes, {first.name} has {classes[1]}; join networks of the same classes"
        )
    return aligned(first, other, other.logits)


def aligned(first: FeatureSet, other: FeatureSet, column: Any) -> Any:
    """Return a column of a member ``[N, D]`` in the order of the first member's rows.

    Raises
    ------
    Mismatch
        If the members differ in rows or labels.
    """
    order = _positions(_read(first.ids), _read(other.ids))
    if order is None:
        raise Mismatch(
            f"{other.name} and {first.name} have different inputs; extract both from the same dataset"
        )
    unlabelled = first.labels is None or other.labels is None
    if not unlabelled and (_read(other.labels)[order] != _read(first.labels)).any():
        raise Mismatch(
            f"{other.name} and {first.name} have different labels for the same inputs; extract both again"
        )
    in_order = (order == np.arange(len(order))).all()
    return column if in_order else _read(column)[order]


def _positions(wanted: np.ndarray, names: np.ndarray) -> np.ndarray | None:
    """Return the position of each wanted name in `names`, or None if the two do not contain the same names."""
    if len(names) != len(wanted):
        return None
    if (names == wanted).all():
        return np.arange(len(names))
    by_name, by_wanted = np.argsort(names, kind="stable"), np.argsort(wanted, kind="stable")
    if (names[by_name] != wanted[by_wanted]).any():
        return None
    return by_name[np.argsort(by_wanted)]


def _read(column: Any) -> np.ndarray:
    return np.asarray(column[:])
