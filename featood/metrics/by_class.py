"""Rows and accuracy of each class."""

from __future__ import annotations

__all__ = ["class_table"]

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike


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
        Names by class number; the number itself is the name where there is none.

    Returns
    -------
    list of dict
        ``class``, ``n`` (rows) and, where there are predictions, ``accuracy`` between 0 and 1.

    Examples
    --------
    >>> class_table([0, 0, 2], [0, 1, 2], ["ant", "bee", "cat"])
    [{'class': 'ant', 'n': 2, 'accuracy': 0.5}, {'class': 'cat', 'n': 1, 'accuracy': 1.0}]
    """
    labels = np.asarray(labels)
    known = labels >= 0
    numbers, place, counts = np.unique(labels[known], return_inverse=True, return_counts=True)
    rows: list[dict[str, Any]] = [
        {"class": names[number] if number < len(names) else str(number), "n": count}
        for number, count in zip(numbers.tolist(), counts.tolist(), strict=True)
    ]
    if predictions is not None:
        right = np.bincount(place, np.asarray(predictions)[known] == labels[known], len(numbers)) / counts
        for row, share in zip(rows, right.tolist(), strict=True):
            row["accuracy"] = share
    return rows
