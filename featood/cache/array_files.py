"""Import of embeddings from files into the cache."""

from __future__ import annotations

__all__ = ["import_files", "read_array", "read_classifier"]

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from featood.cache.feature_cache import FeatureCache, slug
from featood.cache.feature_set import Classifier, FeatureSet
from featood.cache.transfer import import_arrays
from featood.errors import DataError, UsageError
from featood.readers import LABELS, Columns, as_array, features_of, listed, read_columns
from featood.reporter import SILENT, Reporter

TITLES = "titles"
"""Entry of a set's `run` with the names of the scalar columns that were combined to feature columns."""


def read_array(path: str | Path, key: str = "") -> dict[str, np.ndarray]:
    """Read the arrays of a file by name, without running any code in it.

    Parameters
    ----------
    path : path
        A file of any supported format; see :func:`featood.readers.read_columns`.
    key : str
        Name for the array of a file with a single unnamed array, such as ``.npy``.

    Raises
    ------
    DataError
        If the file is missing, damaged, empty, of another format, or contains Python objects.
    """
    source = read_columns(path)
    return {
        name or key or Path(path).stem: np.asarray(as_array(values, name))
        for name, values in zip(source.names, source.values, strict=True)
    }


def read_classifier(path: str | Path) -> Classifier:
    """Read weight ``[C, D]`` and bias ``[C]``, zero if it is missing, from a file with arrays of these names.

    Raises
    ------
    DataError
        If the file cannot be read, or has no weight.
    """
    parts = read_array(path)
    if "weight" not in parts:
        raise DataError(f"{path} must hold an array named weight (it has: {', '.join(parts)})")
    return Classifier(parts["weight"], parts.get("bias", np.zeros(np.shape(parts["weight"])[:1], "f4")))


def import_files(
    cache: FeatureCache,
    key: str,
    features: Sequence[str],
    logits: str | None = None,
    labels: str | None = None,
    classifier: str | None = None,
    *,
    reporter: Reporter = SILENT,
    **options: Any,
) -> FeatureSet:
    """Import embeddings from files; see :func:`import_arrays`.

    Every array ``[N, D]`` of a file becomes a column, and so does every column of vectors of a table. A table of
    scalars becomes one column, ``features``.

    Parameters
    ----------
    cache, key, options
        See :func:`import_arrays`.
    features : sequence of str
        Files, or ``NAME=FILE``; arrays in them that are named ``logits``, ``labels`` (or ``label``, ``targets``,
        ``class``, ``y``) and ``ids`` are used as such.
    logits, labels : str, optional
        Files with one array; labels may also be a text file with one label per line.
    classifier : str, optional
        File with arrays ``weight`` and optionally ``bias``.
    reporter : Reporter
        Receives a line about each choice made.

    Raises
    ------
    DataError
        If a file is missing or cannot be read, and as in :func:`import_arrays`.
    UsageError
        If a column is given twice, or without a name or a file.
    """
    columns: dict[str, Any] = {}
    titles: dict[str, Any] = {}
    for given in features:
        name, named, path = given.rpartition("=")
        if not path or (named and not name.strip()):
            raise UsageError(f"--features takes FILE or NAME=FILE, not '{given}'")
        arrays, facts = _features(
            path, name, reporter, _scalar_names(cache, key, bool(options.get("append")))
        )
        titles |= facts.pop(TITLES, {})
        options |= facts
        if twice := [column for column in arrays if column in columns]:
            raise UsageError(
                f"--features gives the column '{twice[0]}' twice; name each one NAME=FILE, or omit one"
            )
        columns |= arrays
    linear = read_classifier(classifier) if classifier else None
    for name, apart in (("logits", logits), ("labels", labels)):
        if apart is not None and name in columns:
            raise UsageError(f"--features also contains {name}; remove it there, or omit --{name}")
    logit_values = columns.pop("logits", None) if logits is None else _single(logits, "logits")
    label_values = columns.pop("labels", None)
    if labels is not None:
        label_values = _single(labels, "labels", max((len(column) for column in columns.values()), default=0))
        options.pop("classes", None)
    if "ids" in columns and columns["ids"].ndim == 1:
        options["ids"] = columns.pop("ids")
    if titles:
        options["run"] = {**(options.get("run") or {}), TITLES: titles}
    return import_arrays(
        cache, key, columns, logit_values, label_values, linear, reporter=reporter, **options
    )


def _scalar_names(cache: FeatureCache, key: str, append: bool) -> Mapping[str, Sequence[str]]:
    """Names and order of the scalar columns that were combined to columns of the set to add to, or another."""
    backbone = slug(key.split("/")[0])
    runs = (
        entry.manifest.run
        for entry in cache.entries()
        if entry.backbone == backbone and (append or entry.key != key)
    )
    return next((run[TITLES] for run in runs if TITLES in run), {})


def _features(
    path: str, name: str, reporter: Reporter, others: Mapping[str, Sequence[str]]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read the arrays of a file by column name, with further facts on them."""
    source = read_columns(path)
    found: dict[str, Any] = dict(zip(source.names, source.values, strict=True))
    wide = {column: values for column, values in found.items() if getattr(values, "ndim", 1) > 1}
    label = next((column for column in LABELS if column in found), None)
    if source.tabular and not wide:
        return _scalars(source, path, name or "features", label, reporter, others)
    for note in source.notes:
        reporter.line(f"{path}: {note}")
    y = found.get("y")
    if not label and not source.tabular and isinstance(y, np.ndarray) and y.size == len(y):
        label = "y"
    columns = {column or "features": values for column, values in wide.items() if column != label}
    if name and len(columns) == 1:
        columns = {name: next(iter(columns.values()))}
    if label:
        columns["labels"] = found[label]
        if label != "labels":
            reporter.line(f"{path}: {label!r} is taken as the labels")
    if "ids" in found and "ids" not in columns:
        columns["ids"] = as_array(found["ids"])
    narrow = [column for column in found if column not in wide and column not in (label, "ids")]
    if not wide:  # which is told what is wrong with them
        columns |= {column or "features": found[column] for column in narrow}
    elif narrow:
        reporter.line(f"{path}: left out: {listed(narrow)} (one value per row, next to columns of vectors)")
    return columns, {"classes": source.classes[label]} if label and label in source.classes else {}


def _scalars(
    source: Columns,
    path: str,
    name: str,
    label: str | None,
    reporter: Reporter,
    others: Mapping[str, Sequence[str]],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Combine a table's scalar columns to one column of features, in the order of the backbone's other sets."""
    like = others.get(name, ())
    try:
        rows = features_of(source, Path(path), label or "", like=like)
    except DataError as error:
        raise DataError(f"{error} (such a table is imported by --file)") from None
    features, titles = rows.features, list(rows.columns)
    named = titles != [str(place) for place in range(len(titles))]  # those are but positions
    if like and named and titles != list(like):
        if odd := sorted(set(titles) ^ set(like)):
            raise DataError(
                f"{path}: column {odd[0]!r} is in it or in the backbone's other sets, not in both"
            )
        features = features[:, [titles.index(title) for title in like]]
        reporter.line(f"{path}: the columns are reordered as in the backbone's other sets")
    for note in rows.notes:
        reporter.line(f"{path}: {note}")
    columns: dict[str, Any] = {name: features}
    if label:
        columns["labels"] = rows.labels
        if label != "labels":
            reporter.line(f"{path}: {label!r} is taken as the labels")
    facts: dict[str, Any] = {"classes": rows.classes} if rows.classes else {}
    return columns, facts | ({TITLES: {name: list(like or titles)}} if named else {})


def _single(path: str, key: str, rows: int = 0) -> Any:
    """Read a file with one array; if a text file has no header, its first line is data too."""
    source = read_columns(path)
    if source.delimiter and rows and len(source.values[0]) == rows - 1:
        source = read_columns(path, header=False)
    found: dict[str, Any] = dict(zip(source.names, source.values, strict=True))
    if source.tabular and key == "logits" and len(found) > 1:
        return features_of(source, Path(path)).features
    wanted = next((name for name in (LABELS if key == "labels" else (key,)) if name in found), None)
    if wanted is None and len(found) > 1:
        raise DataError(
            f"{path} holds several arrays ({listed(list(found))}); rename the one to use to {key}"
        )
    return next(iter(found.values())) if wanted is None else found[wanted]
