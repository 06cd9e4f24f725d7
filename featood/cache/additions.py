"""Rows that are added to an imported set: which of the given rows are new, and the columns of all rows."""

from __future__ import annotations

__all__ = ["TAKEN_OVER", "check_alike", "facts_of", "new_rows", "same_classifier", "with_rows_before"]

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from featood.cache.columns import JoinedColumn
from featood.cache.feature_set import ROWS, Classifier, FeatureSet
from featood.cache.manifest import differing
from featood.errors import DataError, Mismatch, UsageError
from featood.reporter import Reporter

TAKEN_OVER = "taken_over"
"""Entry of a set's `run` about the rows that it has from the set that it replaced."""
INSTEAD = "import all rows again with --overwrite and without --append"


def with_rows_before(
    before: FeatureSet,
    given: Mapping[str, np.ndarray],
    ids: Sequence[str] | None,
    computed: Collection[str],
    reporter: Reporter,
) -> tuple[dict[str, Any], list[str] | None]:
    """Return the columns and names of the rows of a set, which stay on disk, followed by the given rows that are new.

    Parameters
    ----------
    before : FeatureSet
        A set of the cache.
    given : mapping of str to array
        The columns of the given rows, apart from their names.
    ids : sequence of str, optional
        Their names.
    computed : collection of str
        Columns that are computed from others; not compared, as their last bits may depend on the number of rows.
    reporter : Reporter
        Receives a line about the rows that are added.

    Raises
    ------
    Mismatch
        If the columns differ in names, row shape or type.
    DataError, UsageError
        As :func:`new_rows`.
    """
    there = _columns(before)
    for what, only in (("the set has", set(there) - set(given)), ("the rows have", set(given) - set(there))):
        if only:
            raise Mismatch(
                f"{before.name}: only {what} {', '.join(sorted(only))}; give the columns of the set"
            )
    for name, values in given.items():
        ours, theirs = (f"{list(one.shape[1:])} {np.dtype(one.dtype)}" for one in (values, there[name]))
        if ours != theirs:
            raise Mismatch(
                f"{before.name}: a row of '{name}' is {ours}, in the set {theirs}; convert it, or {INSTEAD}"
            )
    added = new_rows(before, {name: given[name] for name in given if name not in computed}, ids)
    known = len(next(iter(given.values()))) - len(added)
    reporter.line(
        f"{before.name}: {len(added)} rows are added to {len(before)}"
        + (f"; {known} are left out, because the set has them" if known else "")
    )
    assert before.ids is not None
    names = None if ids is None else [*before.ids[:], *(ids[row] for row in added)]
    return {name: JoinedColumn(values, given[name][added]) for name, values in there.items()}, names


def new_rows(before: FeatureSet, given: Mapping[str, np.ndarray], ids: Sequence[str] | None) -> np.ndarray:
    """Return which of the given rows a set does not have, so that an addition can be repeated.

    Rows with names are compared by name. Rows without names may be all rows, the first of which are those of the set,
    or the last rows of the set; otherwise all of them are new.

    Parameters
    ----------
    before, given, ids
        See :func:`with_rows_before`.

    Returns
    -------
    array of int
        Positions among the given rows.

    Raises
    ------
    DataError
        If the set has a row of the same name with other values.
    UsageError
        If only the rows of the set have names.
    """
    assert before.ids is not None
    names, count, total = list(before.ids[:]), len(before), len(next(iter(given.values())))
    if ids is not None:
        rows = {name: row for row, name in enumerate(names)}
        found = np.array([rows.get(name, -1) for name in ids], np.int64)
        known = np.flatnonzero(found >= 0)
        first = _first_difference(before, found[known], given, known)
        if first is not None:
            raise DataError(f"{before.name} has a row {ids[known[first]]!r} with other values; {INSTEAD}")
        return np.flatnonzero(found < 0)
    if names != list(map(str, range(count))):
        raise UsageError(
            f"the rows of {before.name} have names, such as {names[0]!r}; name the new ones by 'ids', or {INSTEAD}"
        )
    for start in (0, count - total):
        length = min(count - start, total) if start >= 0 else 0
        if start + length == count and length:
            rows_there, rows_given = np.arange(start, count), np.arange(length)
            if _first_difference(before, rows_there, given, rows_given) is None:
                return np.arange(length, total)
    return np.arange(total)


def _first_difference(
    before: FeatureSet, theirs: np.ndarray, given: Mapping[str, np.ndarray], ours: np.ndarray
) -> int | None:
    """Return the first of some pairs of rows whose values differ; None if all are equal."""
    there = _columns(before)
    for start in range(0, len(ours), ROWS):
        part = slice(start, start + ROWS)
        different = np.zeros(len(ours[part]), bool)
        for name, values in given.items():
            unequal = np.asarray(values[ours[part]] != there[name][theirs[part]])
            different |= unequal.reshape(len(different), -1).any(1)
        if different.any():
            return start + int(np.argmax(different))
    return None


def _columns(features: FeatureSet) -> dict[str, Any]:
    """Return the columns of a set by name, apart from the names of its rows."""
    others = {name: getattr(features, name) for name in ("logits", "labels")}
    return {**features.features, **{name: values for name, values in others.items() if values is not None}}


def facts_of(before: FeatureSet) -> dict[str, Any]:
    """Return the facts of a set's manifest that hold for a longer one, too."""
    run = before.origin.run if before.origin else {}
    return {name: value for name, value in run.items() if name not in ("created", TAKEN_OVER)}


def check_alike(before: FeatureSet, recipe: Mapping[str, Any], store: str) -> None:
    """Raise Mismatch if rows of a set were made by another recipe, or are in another store."""
    assert before.origin is not None
    ours, theirs = {**recipe, "store": store}, {**before.recipe, "store": before.origin.store}
    if other := differing(ours, theirs):
        raise Mismatch(f"{before.name} was made in another way (differing: {other}); repeat it, or {INSTEAD}")


def same_classifier(before: FeatureSet, given: Classifier | tuple[Any, Any] | None) -> Any:
    """Return the classifier of a set; raise Mismatch if another is given."""
    there = before.classifier
    if given is not None and (
        there is None
        or not all(
            np.array_equal(np.asarray(one, "f4"), other) for one, other in zip(given, there, strict=True)
        )
    ):
        raise Mismatch(
            f"{before.name} has {'another' if there else 'no'} classifier; omit --classifier, or {INSTEAD}"
        )
    return there
