"""Score maps: scores of a head on a grid over the plane, for features with two dimensions."""

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
"""Number of grid points along each side."""
SHOWN = 150
"""Number of rows of each set that are drawn."""


@dataclass
class ScoreMaps:
    """A rectangle of the plane, some rows of each set, and the scores of each head on a grid over the rectangle."""

    source: FeatureSet
    """The in-distribution set; its main column has two dimensions."""
    extent: tuple[float, float, float, float]
    """Left, right, bottom, top."""
    axes: tuple[str, str]
    """Names of the two columns."""
    points: dict[str, np.ndarray]
    """Some rows ``[n, 2]`` of each set, the in-distribution set first."""
    grids: dict[str, np.ndarray] = field(default_factory=dict)
    """Scores ``[SIDE, SIDE]`` by head; the first index increases upwards, the second to the right."""

    def add(self, label: str, head: Head, force: bool = False) -> None:
        """Score the grid with a head; a head that needs other columns is left out."""
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
    """Choose the rectangle: all rows that are within three widths of the in-distribution rows.

    Parameters
    ----------
    sets : mapping of str to FeatureSet
        The sets by name, the in-distribution set first.

    Returns
    -------
    ScoreMaps or None
        None if the main column of the in-distribution set does not have two dimensions.
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
