"""Holding out rows of a set to validate on; columns on disk stay there."""

from __future__ import annotations

__all__ = ["hold_out"]

import dataclasses
from typing import Any

import numpy as np

from featood.cache.columns import ChosenRows
from featood.cache.feature_set import FeatureSet
from featood.errors import DataError


def hold_out(data: FeatureSet, share: float, seed: int) -> tuple[FeatureSet, FeatureSet]:
    """Split a set at random into the rows to keep and the rows held out.

    Parameters
    ----------
    data : FeatureSet
        The set; its columns may be on disk and stay there.
    share : float
        Share of the rows to hold out, in (0, 1).
    seed : int
        Seed of the draw.

    Returns
    -------
    kept, held : FeatureSet
        In the order of the set.

    Raises
    ------
    DataError
        When a part would be empty.
    """
    rows = len(data)
    count = round(share * rows)
    if not 0 < count < rows:
        raise DataError(
            f"{share:.0%} of the {rows} rows of {data.name} leaves nothing to fit or to validate on"
        )
    held = np.zeros(rows, dtype=bool)
    held[np.random.default_rng(seed).permutation(rows)[:count]] = True
    return _part(data, np.flatnonzero(~held)), _part(data, np.flatnonzero(held))


def _part(data: FeatureSet, rows: np.ndarray) -> FeatureSet:
    others: dict[str, Any] = {
        name: None if (column := getattr(data, name)) is None else ChosenRows(column, rows)
        for name in ("logits", "labels", "ids")
    }
    features = {name: ChosenRows(column, rows) for name, column in data.features.items()}
    return dataclasses.replace(data, features=features, **others)
