"""The map of the features: some rows of each set in the plane of two components."""

from __future__ import annotations

__all__ = ["ROWS", "chosen_rows", "map_points", "projections"]

from collections.abc import Mapping

import numpy as np

from featood.cache.feature_set import FeatureSet
from featood.errors import MissingPackage

ROWS = 2000
"""Number of rows of all sets together."""
NEIGHBOURS = 15
"""Neighbours of a row in UMAP."""


def chosen_rows(sets: Mapping[str, FeatureSet], total: int = ROWS) -> dict[str, np.ndarray]:
    """Choose evenly spaced rows of each set that has the main column of the first, equally many of each.

    Returns
    -------
    dict of str to ndarray of int
        Empty if the first set has no features.
    """
    main = next(iter(sets.values())).main
    usable = {name: features for name, features in sets.items() if main and main in features.features}
    each = total // max(1, len(usable))
    return {
        name: np.unique(np.linspace(0, len(features) - 1, each).round().astype(int))
        for name, features in usable.items()
    }


def map_points(sets: Mapping[str, FeatureSet], rows: Mapping[str, np.ndarray]) -> np.ndarray:
    """Read the main column of the chosen rows, block by block; returns ``[N, D]``."""
    main = sets[next(iter(rows))].main
    parts = []
    for name, wanted in rows.items():
        start = 0
        for block in sets[name].select(main).blocks():
            inside = wanted[(wanted >= start) & (wanted < start + len(block))] - start
            parts.append(np.asarray(block.feature(main))[inside])
            start += len(block)
    return np.concatenate(parts).astype(np.float64)


def projections(points: np.ndarray, umap: bool = False, seed: int = 0) -> dict[str, np.ndarray]:
    """Project features to the plane: by principal components, and by UMAP if asked for.

    Parameters
    ----------
    points : array of shape [N, D]
        Features; both projections are fitted on these rows.
    umap : bool
        Also use UMAP, which takes half a minute.
    seed : int
        Seed of UMAP.

    Returns
    -------
    dict of str to ndarray
        Coordinates ``[N, 2]`` by the name of the projection. Features with two dimensions are not projected. Empty if
        there are fewer than three rows, or a value is not finite.

    Raises
    ------
    MissingPackage
        If UMAP is asked for and not installed.

    References
    ----------
    McInnes, Healy and Melville, UMAP: Uniform Manifold Approximation and Projection, 2018.
    """
    if len(points) < 3 or not np.isfinite(points).all():
        return {}
    if points.shape[1] == 2:
        return {"features": points}
    centred = points - points.mean(0)
    left, values, right = np.linalg.svd(centred, full_matrices=False)
    share = values[:2] ** 2 / max((values**2).sum(), np.finfo(float).tiny)
    # the sign of a component is arbitrary; its largest weight is made positive, so that the map is reproducible
    signs = np.sign(right[:2][range(len(right[:2])), np.abs(right[:2]).argmax(1)])
    plane = np.zeros((len(points), 2))
    plane[:, : len(signs)] = left[:, :2] * values[:2] * signs
    found = {f"PCA, {100 * share.sum():.0f} % of the variance": plane}
    if umap and len(points) > NEIGHBOURS:
        try:
            from umap import UMAP
        except ImportError:
            raise MissingPackage("a map by UMAP needs umap-learn: pip install 'featood[umap]'") from None
        found["UMAP"] = UMAP(n_neighbors=NEIGHBOURS, random_state=seed, n_jobs=1).fit_transform(points)
    return found
