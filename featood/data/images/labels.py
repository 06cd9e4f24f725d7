"""Labels of image sets."""

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
    """Put the labels of a set into numbers of classes, and say what was inferred.

    Parameters
    ----------
    values : array or list of str
        As :func:`featood.readers.class_labels` takes them.
    rows : int
        N, the number of images.
    where : object
        What to name in an error: a path.
    others : callable
        Gives the labels of the other splits, whose names are numbered along; asked only if there are names.

    Returns
    -------
    labels : ndarray, int64 [N]
        Negative where unknown.
    classes : tuple of str
        The names, if there are any.
    notes : tuple of str
        One line each about what was inferred.

    Raises
    ------
    DataError
        If a row has no class of its own, or several.
    """
    if getattr(values, "shape", None) == (1, rows):  # as MATLAB writes them
        values = values.reshape(-1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            labels, classes = class_labels(values, others=others, spelt=True)
        except DataError as error:
            raise DataError(f"{where}: {error}") from None
    if labels.shape != (rows,):
        raise DataError(f"{where}: {rows} images but {len(labels)} labels; one a row is needed")
    notes = [str(warning.message) for warning in caught]
    if classes:
        brief = ", ".join(classes[:5]) + f", ... {classes[-1]} ({len(classes)})" * (len(classes) > 5)
        notes.append(f"labels are names of classes, numbered in their order: {brief}")
    return labels, classes, tuple(notes)
