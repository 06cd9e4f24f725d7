"""Score maps: the scores of a head on a grid over the plane, where the features have two dimensions."""

from __future__ import annotations

__all__ = ["SIDE", "ScoreMaps", "open_score_maps"]

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from featood.cache.feature_set import FeatureSet
from featood.errors import FeatoodError
from featood.heads.base.head import Head

SIDE = 100
"""Points of the grid along each side."""
SHOWN = 150
"""Rows of a set that are drawn."""


@dataclass
class ScoreMaps:
    """A window on the plane, some rows of each set in it, and the scores of each head on a grid over it."""

    source: FeatureSet
    """The in-distribution set; its main column has two dimensions."""
    extent: tuple[float, float, float, float]
    """Left, right, bottom, top."""
    axes: tuple[str, str]
    """Names of the two columns."""
    points: dict[str, np.ndarray]
    """Some rows ``[n, 2]`` of each set, the in-distribution set's first."""
    grids: dict[str, np.ndarray] = field(default_factory=dict)
    """Scores ``[SIDE, SIDE]`` by head; rows go up, columns to the right."""

    def add(self, label: str, head: Head, force: bool = False) -> None:
        """Score the grid with a head; one that needs more than the two columns is left out."""
        left, right, bottom, top = self.extent
        x, y = np.meshgrid(np.linspace(left, right, SIDE), np.linspace(bottom, top, SIDE))
        features = {self.source.main: np.stack([x.ravel(), y.ravel()], 1).astype("f4")}
        grid = FeatureSet(features, fingerprint=self.source.fingerprint, name="the plane")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.grids[label] = np.asarray(head.score(grid, force=force)).reshape(SIDE, SIDE)
        except FeatoodError:
            return


def open_score_maps(sets: Mapping[str, FeatureSet]) -> ScoreMaps | None:
    """Choose the window that shows every set: all rows within three times the width of the in-distribution ones.

    Parameters
    ----------
    sets : mapping of str to FeatureSet
        The sets by name, the in-distribution set first.

    Returns
    -------
    ScoreMaps or None
        None where the main column of that set does not have two dimensions.
    """
    source = next(iter(sets.values()))
    if not source.features or source.feature().shape[1] != 2:
        return None
    points = {
        name: np.asarray(features.feature(source.main)[:], np.float64)
        for name, features in sets.items()
        if source.main in features.features
    }
    rows = next(iter(points.values()))
    low, high = rows.min(0), rows.max(0)
    width = np.where(high > low, high - low, 1.0)
    everything = np.concatenate(list(points.values()))
    low, high = (
        np.maximum(everything.min(0), low - 3 * width),
        np.minimum(everything.max(0), high + 3 * width),
    )
    margin = 0.04 * (high - low) + 1e-3 * width
    (left, bottom), (right, top) = low - margin, high + margin
    table = (source.origin and source.origin.table) or {}
    x, y = table.get("columns") or ("first feature", "second feature")
    shown = {name: values[:: max(1, len(values) // SHOWN)][:SHOWN] for name, values in points.items()}
    return ScoreMaps(source, (float(left), float(right), float(bottom), float(top)), (x, y), shown)
