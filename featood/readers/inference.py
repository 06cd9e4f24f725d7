"""What the columns of a table are: features, row numbers, labels; nothing is left out without a word."""

from __future__ import annotations

__all__ = ["LABELS", "Rows", "features_of"]

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from featood.errors import DataError, UsageError
from featood.readers.columns import Columns
from featood.readers.naming import column_position, listed
from featood.readers.parsing import Parsed, parse_columns

UNNAMED = re.compile(r"|unnamed: \d+(\.\d+|_level_\d+)*|__index_level_\d+__", re.IGNORECASE)
_NAMES = """
    id ids idx index row rows rowid rowindex rowname rownames rownum rownumber level0 no nr number
"""
ROW_NAMES = frozenset(_NAMES.split())
LABELS = ("labels", "label", "targets", "target", "class")
"""What a column of classes is called, the likeliest first."""
FEWEST = 5
"""Rows from which on a column that counts them is taken to do so on purpose, whatever its name."""
MANY = 20
"""Rows from which on whole numbers that only grow are suspected to number rows of a larger table."""


class Rows(NamedTuple):
    """The rows of a table that have all their values."""

    features: np.ndarray
    """``[M, D]`` float64, finite."""
    columns: tuple[str, ...]
    """Names of the D columns."""
    numbers: np.ndarray
    """Number of each row in the file ``[M]``, from 0."""
    labels: Any
    """The label column's values ``[M]``; None where none was asked for."""
    classes: tuple[str, ...]
    """Names of the classes that integer labels count, where the file says them."""
    left_out: tuple[str, ...]
    """Columns that are neither features nor labels."""
    notes: tuple[str, ...]
    """A line about whatever was left out or converted."""


def features_of(
    source: Columns,
    path: Path,
    label: str = "",
    drop: Iterable[str] = (),
    keep: Iterable[str] = (),
    like: Sequence[str] = (),
) -> Rows:
    """Find the features and labels of a table.

    Columns without a name or a value and those that number or identify the rows are left out; rows that lack a
    value are left out.

    Parameters
    ----------
    source : Columns
        What was read.
    path : Path
        For messages.
    label : str
        Column of classes, by name or by position (from the end with -1 for the last).
    drop, keep : iterable of str
        Columns to leave out besides, and columns to take although they look like none; by name or position.
    like : sequence of str
        Names of the features of a table that this one goes with: they are features here too.

    Raises
    ------
    DataError
        When a column of features holds what is no finite number, or no column or row is left.
    UsageError
        When a column that is named is not there.
    """
    names = source.names
    target = column_position(label, names, path) if label else -1
    dropped = {column_position(name, names, path) for name in drop}
    kept = {column_position(name, names, path) for name in keep}
    if both := dropped & (kept | {target}):
        raise UsageError(f"column {names[min(both)]!r} cannot be dropped and used at once")
    candidates = [place for place in range(len(names)) if place != target and place not in dropped]
    _check_lengths(source, {*candidates, target} - {-1}, path)
    parsed = parse_columns(source, candidates)
    for place in {*candidates} - kept:
        if (classes := source.classes.get(names[place])) is not None:
            parsed[place] = Parsed(
                np.empty(0), f"numbers of classes ({listed(classes)}), which measure nothing"
            )
    kept |= {place for place in candidates if names[place] and names[place] in like}
    reasons = {
        place: reason
        for place in candidates
        if place not in kept and (reason := _why_none(source, place, parsed[place]))
    }
    used = [place for place in candidates if place not in reasons]
    notes = [*source.notes, *_said(names, reasons)]
    if not used:
        hint = f" ({'; '.join(notes)}; --keep takes one back)" if reasons else ""
        raise DataError(f"{path} has no column of features{hint}")
    _check_features(names, {place: parsed[place] for place in used}, path)
    notes += _conversions(names, parsed, used, kept)
    if not label:
        notes += [
            f"{names[place]!r} is taken as a feature; if it holds the classes, add --label {names[place]}"
            for place in used
            if names[place] in LABELS and place not in kept and parsed[place].values.ndim == 1
        ]

    columns = tuple(title for place in used for title in _titles(names[place], parsed[place].values))
    blocks = [parsed[place].values for place in used]
    features = np.concatenate([block.reshape(len(block), -1) for block in blocks], axis=1)
    labels: Any = source.values[target] if label else None
    whole = ~np.isnan(features).any(1)
    unlabelled = _unlabelled(labels, names[target] in source.classes) if label else ~np.ones_like(whole)
    if (lacking := unlabelled | ~whole).any():
        counts = {**dict(zip(columns, np.isnan(features).sum(0), strict=True)), "the label": unlabelled.sum()}
        words = {word for place in used for word in parsed[place].words}
        notes.append(_missing(counts, lacking, sorted(words), path))
        whole = ~lacking
        features = features[whole]
        if label:
            labels = labels.filter(whole) if hasattr(labels, "filter") else labels[whole]
    finite = np.isfinite(features).all(0)
    if not finite.all():
        raise DataError(f"{path}: column {columns[int(np.argmin(finite))]!r} holds an infinite value")
    constant = [name for name, width in zip(columns, np.ptp(features, axis=0), strict=True) if width == 0]
    if constant and len(features) > 1:
        notes.append(f"constant: {listed(constant)}")
    left_out = tuple(names[place] for place in sorted({*reasons, *dropped}))
    classes = source.classes.get(names[target], ()) if label else ()
    return Rows(features, columns, np.flatnonzero(whole), labels, classes, left_out, tuple(notes))


def _check_lengths(source: Columns, places: Iterable[int], path: Path) -> None:
    sizes = {source.names[place]: len(source.values[place]) for place in sorted(places)}
    if len(set(sizes.values())) > 1:
        counts = listed([f"{name} {size}" for name, size in sizes.items()])
        raise DataError(
            f"{path}: columns differ in their number of rows ({counts}); leave out by --drop what has others"
        )
    if not any(sizes.values()):
        raise DataError(f"{path} has no rows")


def _why_none(source: Columns, place: int, parsed: Parsed) -> str:
    """Say why a column is no feature; nothing where it may be one."""
    name = source.names[place]
    if parsed.empty:
        return "empty"
    if source.tabular and UNNAMED.fullmatch(name):
        return "no name"
    if name in source.index:
        return "labels the rows"
    called_so = re.sub(r"[\W_]", "", name.lower()) in ROW_NAMES or name == "#"
    values = parsed.values
    if parsed.wrong:
        distinct = called_so and parsed.texts is not None and len(parsed.texts.unique()) == len(parsed.texts)
        return "identifies the rows" if distinct else ""
    if values.ndim > 1:
        return ""
    if len(values) >= (2 if called_so else FEWEST) and _counts(values):
        return "numbers the rows"
    whole = called_so and len(values) >= FEWEST and (values == np.round(values)).all()
    return "identifies the rows" if whole and len(np.unique(values)) == len(values) else ""


def _counts(values: np.ndarray) -> bool:
    """Whether values are 0, 1, 2, ... or 1, 2, 3, ..."""
    first, last = values[0], values[-1]
    return first in (0, 1) and last - first == len(values) - 1 and bool((np.diff(values) == 1).all())


def _may_number(values: np.ndarray) -> bool:
    """Whether values could be numbers of rows in another order, or of some rows of more: each whole, each once."""
    if values.ndim > 1 or len(values) < FEWEST or not (values == np.round(values)).all():
        return False
    steps = np.diff(np.sort(values))
    return bool((steps == 1).all() or (len(values) >= MANY and (np.diff(values) > 0).all()))


def _said(names: Sequence[str], reasons: Mapping[int, str]) -> list[str]:
    """One line for each reason to leave columns out."""
    return [
        f"left out: {listed([names[place] or f'column {place}' for place in reasons if reasons[place] == reason])} "
        f"({reason})"
        for reason in dict.fromkeys(reasons.values())
    ]


def _check_features(names: Sequence[str], used: Mapping[int, Parsed], path: Path) -> None:
    if twice := [name for name, count in Counter(names[place] for place in used).items() if count > 1]:
        raise DataError(f"{path} has two columns called {twice[0]!r}; rename one")
    for place, parsed in used.items():
        if parsed.wrong:
            name = names[place]
            shown = shlex.quote(name) if name and "," not in name else str(place)
            raise DataError(
                f"{path}: column {name!r} holds {parsed.wrong}; leave the column out by --drop {shown}, or name it "
                "with --label if it is the class"
            )


def _conversions(
    names: Sequence[str], parsed: Mapping[int, Parsed], used: Sequence[int], kept: set[int]
) -> list[str]:
    hows = dict.fromkeys(parsed[place].how for place in used if parsed[place].how)
    notes = [f"{how}: {listed([names[place] for place in used if parsed[place].how == how])}" for how in hows]
    for place in used:
        if place not in kept and _may_number(parsed[place].values):
            name = names[place]
            notes.append(
                f"{name!r} has another whole number in each row; if it only numbers them, add --drop {name}"
            )
    return notes


def _titles(name: str, values: np.ndarray) -> list[str]:
    if values.ndim == 1:
        return [name]
    return [f"{name}.{place}" if name else str(place) for place in range(values.shape[1])]


def _unlabelled(labels: Any, counted: bool) -> np.ndarray:
    """Which rows have no label ``[N]``; of classes that are counted, negative numbers are none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not isinstance(labels, np.ndarray):
        if pa.types.is_dictionary(labels.type):
            labels = labels.cast(labels.type.value_type)
        lacking = pc.is_null(labels, nan_is_null=True)
        if pa.types.is_string(labels.type) or pa.types.is_large_string(labels.type):
            lacking = pc.or_(lacking, pc.equal(pc.fill_null(pc.utf8_trim_whitespace(labels), ""), ""))
        if counted:
            lacking = pc.or_(lacking, pc.less(pc.fill_null(labels, -1), 0))
        return np.asarray(lacking.to_numpy(), bool)
    if labels.ndim > 1 or labels.dtype.kind not in "fUSO":
        return np.zeros(len(labels), bool)
    if labels.dtype.kind == "f":
        return np.isnan(labels)
    return np.array([value is None or not str(value).strip() for value in labels.tolist()], bool)


def _missing(counts: Mapping[str, int], lacking: np.ndarray, words: Sequence[str], path: Path) -> str:
    """Say which rows are left out; `counts` are the missing values of each column."""
    if lacking.all():
        worst = max(counts, key=lambda name: counts[name])
        raise DataError(
            f"{path} has no row without missing values; {worst!r} lacks most ({counts[worst]} of {len(lacking)}): "
            "leave out by --drop what you do without"
        )
    written = f" (such as {', '.join(words)})" if words else ""
    count = int(lacking.sum())
    are = "row is" if count == 1 else "rows are"
    return f"{count} {are} left out for missing values in {listed([n for n in counts if counts[n]])}{written}"
