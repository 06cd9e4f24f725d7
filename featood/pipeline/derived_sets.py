"""Sets derived from others: with rows held out, or with outliers appended; columns on disk are not loaded."""

from __future__ import annotations

__all__ = [
    "hold_out",
    "limited",
    "outliers_in_files",
    "split_rows",
    "subset",
    "validation_rows",
    "with_outliers",
]

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from featood.cache.columns import ChosenRows, JoinedColumn
from featood.cache.feature_set import FeatureSet
from featood.data.selection import drawn_rows, spaced_rows
from featood.errors import DataError, Mismatch, UsageError

if TYPE_CHECKING:
    from featood.pipeline.selection import Selection


def hold_out(data: FeatureSet, share: float, seed: int) -> tuple[FeatureSet, FeatureSet]:
    """Split a set at random into the rows to keep and the rows held out.

    Parameters
    ----------
    data : FeatureSet
        The set; columns on disk are not loaded.
    share : float
        Share of the rows to hold out, in (0, 1).
    seed : int
        Seed of the draw.

    Returns
    -------
    kept, held : FeatureSet
        The two parts, with rows in their original order.

    Raises
    ------
    DataError
        If a part would be empty.
    """
    rows = len(data)
    count = round(share * rows)
    if not 0 < count < rows:
        raise DataError(
            f"{share:.0%} of the {rows} rows of {data.name} leaves nothing to fit or to validate on"
        )
    return split_rows(data, np.random.default_rng(seed).permutation(rows)[:count])


def split_rows(data: FeatureSet, held: np.ndarray) -> tuple[FeatureSet, FeatureSet]:
    """Split a set into the rows that are not listed in `held` and those that are, both in their original order."""
    listed = np.zeros(len(data), dtype=bool)
    listed[held] = True
    return _part(data, np.flatnonzero(~listed)), _part(data, np.flatnonzero(listed))


def validation_rows(
    selection: Selection, train: FeatureSet, share: float, seed: int
) -> tuple[FeatureSet, FeatureSet, str]:
    """Return the rows to fit on, in-distribution rows to validate on, and a description of the latter.

    These are the ``val`` split, unless it is the split used for tests; else a share of the training rows, held out.

    Raises
    ------
    UsageError
        If `train` is the split that is used for tests.
    """
    own = train.name.split("/")[-1]
    tested = "test" if "test" in selection.entries else "val"
    if own == tested:
        raise UsageError(f"{train.name} is the split that featood score uses; choose on another split")
    if "val" in selection.entries and "val" not in (own, tested):
        validation = selection.open("val")
        return train, validation, validation.name
    kept, held = hold_out(train, share, seed)
    return kept, held, f"{len(held)} rows held out of {train.name}"


def limited(data: FeatureSet, limit: int) -> FeatureSet:
    """Return at most `limit` rows of a set, evenly spaced; columns on disk are not loaded."""
    return _part(data, spaced_rows(len(data), limit))


def subset(data: FeatureSet, *, share: float = 1.0, per_class: int = 0, seed: int = 0) -> FeatureSet:
    """Return rows of a set drawn at random, see :func:`drawn_rows`; columns on disk are not loaded.

    Raises
    ------
    DataError
        If rows of each class are wanted of a set without labels.
    """
    labels = None if data.labels is None else np.asarray(data.labels[:])
    if per_class and labels is None:
        raise DataError(
            f"{data.name} has no labels, so rows of each class cannot be drawn; draw a share of all"
        )
    return _part(data, drawn_rows(len(data), labels, share=share, per_class=per_class, seed=seed))


def with_outliers(train: FeatureSet, outliers: FeatureSet) -> FeatureSet:
    """Append the rows of `outliers` to those of `train`, with label -1 or, if it is negative, their own.

    Columns on disk are not loaded.

    Parameters
    ----------
    train : FeatureSet
        Labelled in-distribution rows.
    outliers : FeatureSet
        Out-of-distribution rows from the same backbone; only the columns of `train` are used.

    Raises
    ------
    Mismatch
        If the two come from different backbones, or a column is missing or has another size.
    """
    if train.fingerprint != outliers.fingerprint:
        raise Mismatch(
            f"{outliers.name} and {train.name} were extracted with different backbones or transforms; extract both "
            "in the same way"
        )
    unknown = np.full(len(outliers), -1)
    if outliers.labels is not None:
        unknown = np.minimum(outliers.labels[:], -1)
    pairs: dict[str, tuple[Any, Any]] = {
        "logits": (train.logits, outliers.logits),
        "labels": (train.labels, unknown),
    }
    try:
        features = {
            name: JoinedColumn(column, outliers.feature(name)) for name, column in train.features.items()
        }
        others: dict[str, Any] = {
            name: None if first is None else JoinedColumn(first, second)
            for name, (first, second) in pairs.items()
        }
    except ValueError:
        raise Mismatch(
            "a column of the training set is missing in the outliers, or has another size; extract both in the same way"
        ) from None
    return dataclasses.replace(train, features=features, ids=None, left_out=0, content="", **others)


def outliers_in_files(train: FeatureSet, paths: Sequence[str]) -> FeatureSet:
    """Return rows of the main column of `train` from files, such as text embeddings of many words, as outliers.

    Parameters
    ----------
    train : FeatureSet
        Labelled in-distribution rows; its classifier, if any, computes the logits of the outliers.
    paths : sequence of str
        Files with one array ``[M, D]``, or with one of the name ``weight``, as ``featood embed-texts`` writes it.

    Returns
    -------
    FeatureSet
        The rows of all files; those of the first have the label -1, of the second -2, and so on.

    Raises
    ------
    DataError
        If a file cannot be read, or its rows do not have the width of the column.
    """
    parts = [_embeddings(train, path) for path in paths]
    rows, logits = np.concatenate(parts), None
    if train.classifier is not None:
        weight, bias = (np.asarray(part, "f4") for part in train.classifier)
        logits = rows @ weight.T + bias
    return FeatureSet(
        {train.main: rows},
        logits=logits,
        labels=np.repeat(-1 - np.arange(len(parts)), [len(part) for part in parts]),
        classifier=train.classifier,
        main=train.main,
        fingerprint=train.fingerprint,
        name=", ".join(Path(path).name for path in paths),
    )


def _embeddings(train: FeatureSet, path: str) -> np.ndarray:
    from featood.cache.array_files import read_array

    arrays = read_array(path)
    values = next(iter(arrays.values())) if len(arrays) == 1 else arrays.get("weight")
    if values is None:
        raise DataError(
            f"{path} must have one array, or one that is named weight (it has: {', '.join(arrays)})"
        )
    width = train.feature().shape[1]
    if values.ndim != 2 or values.shape[1] != width:
        raise DataError(
            f"{path} has an array of shape {list(values.shape)}; outliers of {train.name} need [M, {width}], as the "
            f"column {train.main} has"
        )
    return np.asarray(values, "f4")


def _part(data: FeatureSet, rows: np.ndarray) -> FeatureSet:
    others: dict[str, Any] = {
        name: None if (column := getattr(data, name)) is None else ChosenRows(column, rows)
        for name in ("logits", "labels", "ids")
    }
    features = {name: ChosenRows(column, rows) for name, column in data.features.items()}
    return dataclasses.replace(data, features=features, content="", **others)
