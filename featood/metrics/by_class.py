"""Rows, accuracy and AUROC of each class."""

from __future__ import annotations

__all__ = ["auroc_by_class", "auroc_macro", "class_table"]

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from featood.errors import DataError
from featood.metrics.counts import checked_indices
from featood.metrics.intervals import placements


def class_table(
    labels: ArrayLike, predictions: ArrayLike | None = None, names: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """List the classes that occur, in the order of their numbers.

    Parameters
    ----------
    labels : integer array of shape [N]
        Class numbers; rows below 0 are left out.
    predictions : integer array of shape [N], optional
        Predicted class numbers.
    names : sequence of str
        Names by class number; a missing name is replaced by the number.

    Returns
    -------
    list of dict
        ``class``, ``n`` (number of rows) and, with `predictions`, ``accuracy`` between 0 and 1.

    Examples
    --------
    >>> class_table([0, 0, 2], [0, 1, 2], ["ant", "bee", "cat"])
    [{'class': 'ant', 'n': 2, 'accuracy': 0.5}, {'class': 'cat', 'n': 1, 'accuracy': 1.0}]
    """
    labels = np.asarray(labels)
    known = labels >= 0
    numbers, index, counts = np.unique(labels[known], return_inverse=True, return_counts=True)
    rows: list[dict[str, Any]] = [
        {"class": names[number] if number < len(names) else str(number), "n": count}
        for number, count in zip(numbers.tolist(), counts.tolist(), strict=True)
    ]
    if predictions is not None:
        correct = np.bincount(index, np.asarray(predictions)[known] == labels[known], len(numbers)) / counts
        for row, share in zip(rows, correct.tolist(), strict=True):
            row["accuracy"] = share
    return rows


def auroc_by_class(
    id_scores: ArrayLike, ood_scores: ArrayLike, ood_labels: ArrayLike
) -> tuple[Int[np.ndarray, "K"], Float[np.ndarray, "K"]]:
    """AUROC of all ID rows against the OOD rows of each class, from one sort.

    Parameters
    ----------
    id_scores, ood_scores : array of shape [N] and [M]
        Higher = more out-of-distribution.
    ood_labels : integer array of shape [M]
        Classes of the OOD rows; rows below 0 are left out.

    Returns
    -------
    classes : ndarray of int, shape [K]
        The classes that occur, ascending.
    aurocs : ndarray of shape [K]

    Raises
    ------
    DataError
        If no OOD row has a class, shapes do not match, or a score is NaN.
    """
    labels = checked_indices(ood_labels, "labels")
    (below,) = placements(id_scores, ood_scores).ood
    if len(below) != len(labels):
        raise DataError(f"the {len(below)} OOD scores have {len(labels)} labels; give one label per score")
    known = labels >= 0
    if not known.any():
        raise DataError("no OOD row has a class")
    classes, index, counts = np.unique(labels[known], return_inverse=True, return_counts=True)
    return classes, np.bincount(index, below[known], len(classes)) / counts


def auroc_macro(id_scores: ArrayLike, ood_scores: ArrayLike, ood_labels: ArrayLike) -> float:
    """Mean of `auroc_by_class`, with equal weight for every OOD class."""
    return float(auroc_by_class(id_scores, ood_scores, ood_labels)[1].mean())
