"""The rows of a training set that a network was trained on, and those that its training held out."""

from __future__ import annotations

__all__ = ["TrainingRows", "training_rows"]

from typing import Any, NamedTuple

import numpy as np

from featood.cache.feature_cache import slug
from featood.cache.feature_set import FeatureSet
from featood.extractors.trainer import held_out_rows, is_extractor, read_record
from featood.pipeline.derived_sets import hold_out, split_rows


class TrainingRows(NamedTuple):
    """Two parts of a training set."""

    trained_on: FeatureSet
    held_out: FeatureSet
    origin: str
    """How the rows were divided."""


def training_rows(train: FeatureSet, share: float = 0.1, seed: int = 0) -> TrainingRows:
    """Divide a training set into the rows that the network was trained on, and held-out rows.

    The folder of a network that featood trained on the first rows of this set determines both parts; further rows
    belong to neither. For other networks, held-out rows are drawn, which may have been used in the training.

    Parameters
    ----------
    train : FeatureSet
        The set, from a cache.
    share : float
        Share of the rows to hold out, if the network's own are unknown.
    seed : int
        Seed of that draw.

    Raises
    ------
    DataError
        If a part would be empty.
    """
    record = _record(train)
    if record is None:
        known, held = hold_out(train, share, seed)
        origin = f"{len(held)} of {len(train)} training rows are held out, drawn with seed {seed}"
        return TrainingRows(known, held, f"{origin}; the network may have been trained on them")
    count, training = record["data"]["images"], record["training"]
    first = split_rows(train, np.arange(count, len(train)))[0]
    held_rows = held_out_rows(count, training["validation"], training["seed"])
    known, held = split_rows(first, held_rows)
    return TrainingRows(known, held, f"trained on {len(known)} rows, {len(held)} held out by its training")


def _record(train: FeatureSet) -> dict[str, Any] | None:
    """Return the record of the network's training, if it used rows of this set and held some out."""
    if train.origin is None or train.left_out:
        return None
    folder = train.origin.network.removesuffix("#last")
    if not folder or not is_extractor(folder):
        return None
    record = read_record(folder)
    data, training = record["data"], record["training"]
    same = (slug(data["dataset"]), data["split"]) == (train.origin.dataset, train.origin.split)
    fits = 0 < data["images"] <= len(train) and round(training["validation"] * data["images"]) > 0
    return record if same and fits else None
