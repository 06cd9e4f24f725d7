"""The rows that a head decides worst: false alarms, misses, and the classes with the most of them."""

from __future__ import annotations

__all__ = ["hardest_rows", "worst_classes"]

import numpy as np

from featood.metrics.counts import checked_indices

SHOWN = 8
"""Number of rows of each set."""
CLASSES = 12
"""Number of classes of each set."""


def hardest_rows(scores: np.ndarray, inliers: bool, count: int = SHOWN) -> np.ndarray:
    """Return the ID rows with the highest scores or the OOD rows with the lowest, the hardest first.

    Parameters
    ----------
    scores : array of shape [N]
        Higher = more out-of-distribution.
    inliers : bool
        Whether the rows are in-distribution.
    count : int
        Number of rows.

    Returns
    -------
    ndarray of int, shape [count]
        Of equal scores, the first row is taken.
    """
    return np.argsort(-scores if inliers else scores, kind="stable")[:count]


def worst_classes(
    labels: np.ndarray, wrong: np.ndarray, count: int = CLASSES
) -> tuple[list[int], list[int], list[float]]:
    """Return the classes with the largest share of wrong decisions, the worst first.

    Parameters
    ----------
    labels : integer array of shape [N]
        Class numbers; rows below 0 are left out.
    wrong : boolean array of shape [N]
        Whether a row is decided wrongly: an ID row that is flagged, an OOD row that is accepted.
    count : int
        Number of classes.

    Returns
    -------
    classes, rows, shares : list
        Class numbers, their numbers of rows, and the shares.
    """
    labels = checked_indices(labels, "labels")
    known = labels >= 0
    numbers, index, sizes = np.unique(labels[known], return_inverse=True, return_counts=True)
    shares = np.bincount(index, wrong[known], len(numbers)) / sizes
    worst = np.argsort(-shares, kind="stable")[:count]
    return numbers[worst].tolist(), sizes[worst].tolist(), [round(share, 4) for share in shares[worst]]
