"""From labels as they are written to class indices."""

from __future__ import annotations

__all__ = ["as_class_indices", "as_texts", "number_names"]

import re
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from featood.errors import DataError

_WHOLE = re.compile(r"[+-]?\d+(\.0*)?")
_NUMBER = r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?"
_NUMBERS = re.compile(rf"{_NUMBER}([\s,;]+{_NUMBER})*")
Classes = tuple[np.ndarray, tuple[str, ...], tuple[str, ...]]


def number_names(texts: Sequence[str], where: object, others: Callable[[], Iterable[str]] = tuple) -> Classes:
    """Turn labels given as text into indices.

    Whole numbers (also ``3.0``) are indices; anything else is the name of a class, and these are numbered in
    the order of text.

    Parameters
    ----------
    texts : sequence of str [N]
        The labels; where empty, the class is unknown.
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
        If the labels are numbers that are not whole, or several a row.
    """
    distinct = set(texts) - {""}
    whole = {text.partition(".")[0] for text in distinct} if all(map(_WHOLE.fullmatch, distinct)) else None
    if whole is not None and len(set(map(int, whole))) == len(
        whole
    ):  # 1 and 01 are two names, though one number
        index = {text: int(text.partition(".")[0]) for text in distinct} | {"": -1}
        return np.array([index[text] for text in texts], np.int64), (), ()
    if whole is None and all(map(_NUMBERS.fullmatch, distinct)):
        wrong = min(text for text in distinct if not _WHOLE.fullmatch(text))
        raise DataError(f"{where}: {wrong!r} is no class; labels are one whole number or one name a row")
    classes = sorted(distinct | (set(others()) - {""}))
    index = {name: place for place, name in enumerate(classes)} | {"": -1}
    brief = ", ".join(classes[:5]) + f", ... {classes[-1]} ({len(classes)})" * (len(classes) > 5)
    note = f"labels are names of classes, numbered in the order of text: {brief}"
    return np.array([index[text] for text in texts], np.int64), tuple(classes), (note,)


def as_texts(values: np.ndarray) -> list[str]:
    """Turn an array of text, or of bytes in UTF-8, into strings without blanks around them."""
    values = np.char.decode(values, "utf-8") if values.dtype.kind == "S" else values
    return [text.strip() for text in values.reshape(-1).tolist()]


def as_class_indices(
    values: np.ndarray, rows: int, where: object, others: Callable[[], Iterable[str]] = tuple
) -> Classes:
    """Turn an array of labels into indices.

    Parameters
    ----------
    values : ndarray
        Integers, whole floats, booleans or text ``[N]`` or ``[N, 1]``; or one-hot rows ``[N, C]``.
    rows : int
        N, the number of images.
    where, others
        See :func:`number_names`.

    Returns
    -------
    labels : ndarray, int64 [N]
        Negative where unknown (as NaN is).
    classes, notes : tuple of str
        See :func:`number_names`.

    Raises
    ------
    DataError
        If a row has no class of its own, or several.
    """
    notes: tuple[str, ...] = ()
    if values.ndim == 2 and 1 in values.shape and values.size == rows:
        values = values.reshape(-1)
    if values.ndim == 2 and len(values) == rows and values.dtype.kind in "biuf":
        if not (np.isin(values, (0, 1)).all() and (values.sum(axis=1) == 1).all()):
            raise DataError(
                f"{where}: labels {list(values.shape)} are not one class a row (several, none, or shares); "
                f"give one index a row, or leave the labels out"
            )
        notes = (f"labels are one-hot rows of {values.shape[1]}: the index is the place of the one",)
        values = values.argmax(axis=1)
    if values.shape != (rows,):
        raise DataError(f"{where}: {rows} images but labels of shape {values.shape}; one a row is needed")
    kind = values.dtype.kind
    if kind in "US":
        return number_names(as_texts(values), where, others)
    if kind == "f":
        known = np.where(np.isnan(values), -1, values)
        if (known != np.floor(known)).any() or np.isinf(known).any():
            raise DataError(f"{where}: labels are floats that are not whole; one class a row is needed")
        if unknown := int(np.isnan(values).sum()):
            notes = (f"rows without a label (NaN): {unknown}",)
        values = known
    elif kind not in "biu":
        raise DataError(f"{where}: labels of type {values.dtype} are no classes; whole numbers or names are")
    return values.astype(np.int64), (), notes
