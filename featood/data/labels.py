"""Labels of sets of inputs."""

from __future__ import annotations

__all__ = ["set_labels"]

import warnings
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from featood.errors import DataError
from featood.readers.labels import class_labels


def set_labels(
    values: Any, rows: int, where: object, others: Callable[[], Iterable[str]] = tuple
) -> tuple[np.ndarray, tuple[str, ...], tuple[str, ...]]:
    """Convert the labels of a set to class numbers.

    Parameters
    ----------
    values : array or list of str
        Labels accepted by :func:`featood.readers.class_labels`.
    rows : int
        N, the number of inputs.
    where : object
        Origin of the labels for errors, such as a path.
    others : callable
        Returns the labels of the other splits, to number names consistently; called only if labels are names.

    Returns
    -------
    labels : ndarray, int64 [N]
        Negative if unknown.
    classes : tuple of str
        The names, if any.
    notes : tuple of str
        One line for each inference.

    Raises
    ------
    DataError
        If there is not exactly one label per row.
    """
    if getattr(values, "shape", None) == (1, rows):  # a row vector of MATLAB
        values = values.reshape(-1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            labels, classes = class_labels(values, others=others, lenient=True)
        except DataError as error:
            raise DataError(f"{where}: {error}") from None
    if labels.shape != (rows,):
        raise DataError(f"{where}: {rows} rows but {len(labels)} labels; give one per row")
    notes = [str(warning.message) for warning in caught]
    if classes:
        brief = ", ".join(classes[:5]) + f", ... {classes[-1]} ({len(classes)})" * (len(classes) > 5)
        notes.append(f"labels are class names, numbered in sorted order: {brief}")
    return labels, classes, tuple(notes)
