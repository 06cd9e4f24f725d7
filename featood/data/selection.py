"""Selectors after the colon of a name: some of the classes or of the rows, or options of a generated set."""

from __future__ import annotations

__all__ = [
    "drawn_rows",
    "evenly_spaced",
    "keyword_options",
    "select_classes",
    "selected_classes",
    "spaced_rows",
    "split_limit",
    "with_limit",
]

import inspect
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from featood.data.input_set import InputSet
from featood.errors import DataError, UsageError

Inputs = TypeVar("Inputs", bound=InputSet)
MOST_NAMED = 20
"""Maximum number of classes named in a note."""
_LIMITED = re.compile(r"(.+)[:,]limit=([1-9][0-9]{0,8})", re.DOTALL)


def selected_classes(
    name: str, selector: str, count: int, groups: Mapping[str, str] | None = None
) -> np.ndarray:
    """Return which classes a selector means.

    Parameters
    ----------
    name : str
        Name of the set, for messages.
    selector : str
        Class indices and inclusive ranges, ``0,3,7-9``; the name of a group; or ``known=6,seed=1`` and
        ``unknown=4,seed=1``, the first six and the last four classes in a random order, which is that of NumPy's
        ``default_rng(seed).permutation(count)``. Without a seed, it is 0.
    count : int
        Number of classes of the set.
    groups : mapping of str to str, optional
        Lists of classes by the names of groups.

    Returns
    -------
    ndarray
        bool ``[count]``.

    Raises
    ------
    UsageError
        If the selector is malformed or contains a class that the set does not have.
    """
    groups = groups or {}
    wanted = np.zeros(count, bool)
    if drawn := re.fullmatch(r"(known|unknown)=(\d{1,6})(?:,seed=(\d{1,9}))?", selector):
        size = int(drawn[2])
        if not 0 < size < count:
            raise UsageError(f"{name}:{selector}: the number of classes must be 1 to {count - 1}")
        order = np.random.default_rng(int(drawn[3] or 0)).permutation(count)
        wanted[order[:size] if drawn[1] == "known" else order[-size:]] = True
        return wanted
    for part in groups.get(selector, selector).split(","):
        match = re.fullmatch(r"(\d{1,6})(?:-(\d{1,6}))?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, -1)
        if not first <= last < count:
            known = "".join(f", {group}" for group in groups)
            raise UsageError(
                f"{part!r} is not a class or range of classes of {name}: 0 to {count - 1}{known}"
            )
        wanted[first : last + 1] = True
    return wanted


def select_classes(
    images: Inputs, selector: str, groups: Mapping[str, str] | None = None, count: int = 0
) -> Inputs:
    """Keep the rows of some classes and renumber these 0 to k-1 in the same order.

    Parameters
    ----------
    images : InputSet
        A set with labels.
    selector, groups
        See :func:`selected_classes`.
    count : int
        Number of classes of the set, if they have no names; by default the highest label and one.

    Returns
    -------
    InputSet
        Its ``classes`` are the names of the selected classes, or their indices if names are unknown.

    Raises
    ------
    UsageError
        If the selector is malformed or contains a class that the set does not have.
    DataError
        If the set has no labels, or no rows of these classes.
    """
    name = images.name.partition(":")[0]
    if images.labels is None:
        raise DataError(f"{name} has no labels here, so classes cannot be selected")
    count = len(images.classes) or count or int(images.labels.max(initial=-1)) + 1
    wanted = selected_classes(name, selector, count, groups)
    renumbered = np.where(wanted, np.cumsum(wanted) - 1, -1)
    labels = np.where(images.labels >= 0, renumbered[images.labels], -1)
    if not (labels >= 0).any():
        raise DataError(f"{name} has no rows of the classes {selector}")
    names = images.classes or tuple(map(str, range(count)))
    chosen = [f"{names[index]} ({index})" for index in np.flatnonzero(wanted).tolist()]
    more = [f"and {len(chosen) - MOST_NAMED} more"] * (len(chosen) > MOST_NAMED)
    if "=" in selector:
        named = ", ".join([*chosen[:MOST_NAMED], *more])
        images = images.with_notes(f"{len(chosen)} of {count} classes: {named}")
    return replace(
        images.subset(labels >= 0),
        labels=labels[labels >= 0],
        classes=tuple(names[index] for index in np.flatnonzero(wanted).tolist()),
    )


def keyword_options(name: str, selector: str, function: Callable[..., Any]) -> dict[str, str | float]:
    """Parse ``uniform,n=500,size=64`` into keyword arguments of ``function``.

    A word without ``=`` is the ``kind``; all other options are whole numbers, or numbers if their default is one.

    Raises
    ------
    UsageError
        If ``function`` has no such option, or a value is not such a number.
    """
    parameters = inspect.signature(function).parameters.values()
    known = {entry.name: entry.default for entry in parameters if entry.kind is entry.KEYWORD_ONLY}
    options: dict[str, str | float] = {}
    for part in filter(None, selector.split(",")):
        key, _, value = part.rpartition("=")
        key = key or "kind"
        if key not in known:
            raise UsageError(f"{name} has no option {part!r}; there are {', '.join(known) or 'none'}")
        if key == "kind":
            options[key] = value
        elif isinstance(known[key], float):
            if not re.fullmatch(r"\d*\.?\d+", value, re.ASCII):
                raise UsageError(f"{name}: {key} must be a number such as {known[key]}, not {value!r}")
            options[key] = float(value)
        elif value.isdecimal():
            options[key] = int(value)
        else:
            raise UsageError(f"{name}: {key} must be a whole number, not {value!r}")
    return options


def with_limit(name: str, limit: int) -> str:
    """Return the name of `limit` rows of a set, evenly spaced; without a limit, the name itself.

    Examples
    --------
    >>> with_limit("svhn", 500), with_limit("cifar10:0-5", 500)
    ('svhn:limit=500', 'cifar10:0-5,limit=500')
    """
    return f"{name}{',' if ':' in name else ':'}limit={limit}" if limit else name


def split_limit(name: str | os.PathLike[str]) -> tuple[str | os.PathLike[str], int]:
    """Split a name into that of the whole set and the number of its rows, 0 for all.

    Examples
    --------
    >>> split_limit("cifar10:0-5,limit=500"), split_limit("svhn")
    (('cifar10:0-5', 500), ('svhn', 0))
    """
    match = _LIMITED.fullmatch(name) if isinstance(name, str) else None
    return (match[1], int(match[2])) if match else (name, 0)


def spaced_rows(rows: int, limit: int) -> np.ndarray:
    """Return the numbers ``[min(rows, limit)]`` of evenly spaced rows; those of sorted classes are of all classes.

    Examples
    --------
    >>> spaced_rows(10, 4).tolist(), spaced_rows(3, 4).tolist()
    ([0, 2, 5, 7], [0, 1, 2])
    """
    count = min(rows, limit)
    return np.arange(count) * rows // max(count, 1)


def drawn_rows(
    rows: int, labels: np.ndarray | None = None, *, share: float = 1.0, per_class: int = 0, seed: int = 0
) -> np.ndarray:
    """Draw rows without replacement; more rows of the same seed contain fewer rows.

    Parameters
    ----------
    rows : int
        Number of rows of the set.
    labels : ndarray, optional
        Classes ``[rows]``, for `per_class`.
    share : float
        Share of all rows to draw, in (0, 1]; at least one row.
    per_class : int
        Number of rows to draw of each class, in place of a share of all rows: all rows of a class that has fewer, and
        none with a negative label. 0 for a share.
    seed : int
        Seed of the draw.

    Returns
    -------
    ndarray
        Numbers of the drawn rows, ascending.

    Examples
    --------
    >>> labels = np.array([0, 0, 0, 1, 1, -1])
    >>> labels[drawn_rows(6, labels, per_class=2)].tolist(), len(drawn_rows(6, share=0.5))
    ([0, 0, 1, 1], 3)
    """
    order = np.random.default_rng(seed).permutation(rows)
    if not per_class:
        return np.sort(order[: max(1, round(share * rows))])
    assert labels is not None
    order = order[labels[order] >= 0]
    order = order[np.argsort(labels[order], kind="stable")]
    _, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
    return np.sort(order[np.arange(len(order)) - np.repeat(starts, counts) < per_class])


def evenly_spaced(images: Inputs, limit: int) -> Inputs:
    """Keep at most `limit` rows; the name of the set says so, so that it is never taken for the whole."""
    rows = spaced_rows(len(images), limit)
    limited = replace(images.subset(rows), name=with_limit(images.name, limit))
    return limited.with_notes(f"{len(rows)} of {len(images)} {images.kind}, evenly spaced")
