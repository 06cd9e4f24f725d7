"""Inference of the features, labels and row numbers among the columns of a table; what is left out is reported."""

from __future__ import annotations

__all__ = ["LABELS", "Rows", "check_lengths", "features_of", "is_unlabelled"]

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
"""Usual names of a column of classes, the most likely first."""
FEWEST = 5
"""Smallest number of rows for which a column that counts them is recognised as row numbers, whatever its name."""
MANY = 20
"""Smallest number of rows for which increasing whole numbers may be row numbers of a larger table."""


class Rows(NamedTuple):
    """The rows of a table without missing values."""

    features: np.ndarray
    """``[M, D]`` float64, finite; tokens uint8."""
    columns: tuple[str, ...]
    """Names of the D columns."""
    numbers: np.ndarray
    """Number of each row in the file ``[M]``, from 0."""
    labels: Any
    """Values of the label column ``[M]``; None without one."""
    classes: tuple[str, ...]
    """Names of the classes of integer labels, if the file has them."""
    left_out: tuple[str, ...]
    """Columns that are neither features nor labels."""
    notes: tuple[str, ...]
    """One line about each thing that was left out or converted."""


def features_of(
    source: Columns,
    path: Path,
    label: str = "",
    drop: Iterable[str] = (),
    keep: Iterable[str] = (),
    like: Sequence[str] = (),
) -> Rows:
    """Find the features and labels of a table.

    Columns without a name or any value, columns that number or identify the rows, and rows with missing values are
    left out.

    Parameters
    ----------
    source : Columns
        Columns of the file.
    path : Path
        The file, for messages.
    label : str
        Column of classes, by name or by position (-1 for the last).
    drop, keep : iterable of str
        Further columns to leave out, and columns to keep as features in any case; by name or position.
    like : sequence of str
        Names of the features of a related table, which are features here too.

    Raises
    ------
    DataError
        If a feature column contains values that are not finite numbers, or no column or row is left.
    UsageError
        If a given column does not exist.
    """
    names = source.names
    target = column_position(label, names, path) if label else -1
    dropped = {column_position(name, names, path) for name in drop}
    kept = {column_position(name, names, path) for name in keep}
    if both := dropped & (kept | {target}):
        raise UsageError(f"column {names[min(both)]!r} cannot be both dropped and used")
    candidates = [place for place in range(len(names)) if place != target and place not in dropped]
    check_lengths(source, {*candidates, target} - {-1}, path)
    parsed = parse_columns(source, candidates)
    for place in {*candidates} - kept:
        if (classes := source.classes.get(names[place])) is not None:
            parsed[place] = Parsed(
                np.empty(0), f"class numbers ({listed(classes)}), which are not measurements"
            )
    kept |= {place for place in candidates if names[place] and names[place] in like}
    reasons = {
        place: reason
        for place in candidates
        if place not in kept and (reason := _why_left_out(source, place, parsed[place]))
    }
    used = [place for place in candidates if place not in reasons]
    notes = [*source.notes, *_reason_lines(names, reasons)]
    if not used:
        hint = f" ({'; '.join(notes)}; use --keep to include one)" if reasons else ""
        raise DataError(f"{path} has no feature column{hint}")
    _check_features(names, {place: parsed[place] for place in used}, path)
    notes += _conversions(names, parsed, used, kept)
    if not label:
        notes += [
            f"{names[place]!r} is used as a feature; if it contains the classes, add --label {names[place]}"
            for place in used
            if names[place] in LABELS and place not in kept and parsed[place].values.ndim == 1
        ]

    columns = tuple(title for place in used for title in _titles(names[place], parsed[place].values))
    blocks = [parsed[place].values for place in used]
    features = np.concatenate([block.reshape(len(block), -1) for block in blocks], axis=1)
    labels: Any = source.values[target] if label else None
    whole = ~np.isnan(features).any(1)
    unlabelled = is_unlabelled(labels, names[target] in source.classes) if label else ~np.ones_like(whole)
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
        raise DataError(f"{path}: column {columns[int(np.argmin(finite))]!r} contains an infinite value")
    constant = [name for name, width in zip(columns, np.ptp(features, axis=0), strict=True) if width == 0]
    if constant and len(features) > 1:
        notes.append(f"constant: {listed(constant)}")
    left_out = tuple(names[place] for place in sorted({*reasons, *dropped}))
    classes = source.classes.get(names[target], ()) if label else ()
    return Rows(features, columns, np.flatnonzero(whole), labels, classes, left_out, tuple(notes))


def check_lengths(source: Columns, places: Iterable[int], path: Path) -> None:
    """Raise if columns have different numbers of rows, or none."""
    sizes = {source.names[place]: len(source.values[place]) for place in sorted(places)}
    if len(set(sizes.values())) > 1:
        counts = listed([f"{name} {size}" for name, size in sizes.items()])
        raise DataError(
            f"{path}: columns have different numbers of rows ({counts}); leave some out with --drop"
        )
    if not any(sizes.values()):
        raise DataError(f"{path} has no rows")


def _why_left_out(source: Columns, place: int, parsed: Parsed) -> str:
    """Return why a column is not a feature, or an empty string if it may be one."""
    name = source.names[place]
    if parsed.empty:
        return "empty"
    if source.tabular and UNNAMED.fullmatch(name):
        return "no name"
    if name in source.index:
        return "labels the rows"
    row_name = re.sub(r"[\W_]", "", name.lower()) in ROW_NAMES or name == "#"
    values = parsed.values
    if parsed.wrong:
        distinct = row_name and parsed.texts is not None and len(parsed.texts.unique()) == len(parsed.texts)
        return "identifies the rows" if distinct else ""
    if values.ndim > 1:
        return ""
    if len(values) >= (2 if row_name else FEWEST) and _counts(values):
        return "numbers the rows"
    whole = row_name and len(values) >= FEWEST and (values == np.round(values)).all()
    return "identifies the rows" if whole and len(np.unique(values)) == len(values) else ""


def _counts(values: np.ndarray) -> bool:
    """Whether values are 0, 1, 2, ... or 1, 2, 3, ..."""
    first, last = values[0], values[-1]
    return first in (0, 1) and last - first == len(values) - 1 and bool((np.diff(values) == 1).all())


def _may_number(values: np.ndarray) -> bool:
    """Whether values, whole and distinct, could be row numbers in another order or of a larger table."""
    if values.ndim > 1 or len(values) < FEWEST or not (values == np.round(values)).all():
        return False
    steps = np.diff(np.sort(values))
    return bool((steps == 1).all() or (len(values) >= MANY and (np.diff(values) > 0).all()))


def _reason_lines(names: Sequence[str], reasons: Mapping[int, str]) -> list[str]:
    """Return one line for each reason to leave columns out."""
    return [
        f"left out: {listed([names[place] or f'column {place}' for place in reasons if reasons[place] == reason])} "
        f"({reason})"
        for reason in dict.fromkeys(reasons.values())
    ]


def _check_features(names: Sequence[str], used: Mapping[int, Parsed], path: Path) -> None:
    if twice := [name for name, count in Counter(names[place] for place in used).items() if count > 1]:
        raise DataError(f"{path} has two columns named {twice[0]!r}; rename one")
    for place, parsed in used.items():
        if parsed.wrong:
            name = names[place]
            shown = shlex.quote(name) if name and "," not in name else str(place)
            raise DataError(
                f"{path}: column {name!r} contains {parsed.wrong}; leave the column out with --drop {shown}, or use it "
                "as --label if it is the class"
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
                f"{name!r} has a different whole number in each row; if these are row numbers, add --drop {name}"
            )
    return notes


def _titles(name: str, values: np.ndarray) -> list[str]:
    if values.ndim == 1:
        return [name]
    return [f"{name}.{place}" if name else str(place) for place in range(values.shape[1])]


def is_unlabelled(labels: Any, counted: bool) -> np.ndarray:
    """Return which rows have no label ``[N]``; negative class numbers (`counted`) are missing labels."""
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
    """Return the line about rows left out; `counts` are the missing values of each column."""
    if lacking.all():
        worst = max(counts, key=lambda name: counts[name])
        raise DataError(
            f"{path} has no row without missing values; {worst!r} has the most ({counts[worst]} of {len(lacking)}): "
            "leave columns out with --drop"
        )
    written = f" (such as {', '.join(words)})" if words else ""
    count = int(lacking.sum())
    are = "row is" if count == 1 else "rows are"
    return f"{count} {are} left out because of missing values in {listed([n for n in counts if counts[n]])}{written}"
