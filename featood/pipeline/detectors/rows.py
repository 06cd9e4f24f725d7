"""Decisions of a calibrated head on rows of features in files."""

from __future__ import annotations

__all__ = ["is_head", "load_calibrated", "predict_rows", "read_features"]

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from featood.cache.array_files import read_array
from featood.cache.feature_set import FeatureSet
from featood.data.tables import Scaling, read_table
from featood.errors import DataError, NotFitted, UsageError
from featood.files import size_of
from featood.heads.artefacts.artefact import load_head
from featood.heads.base.calibration import Calibration, predicted_classes
from featood.heads.base.head import Head
from featood.pipeline.detectors.detector import Prediction
from featood.pipeline.detectors.files import names_of
from featood.pipeline.table_writer import ALPHABET, TABLE
from featood.readers import read_columns
from featood.reporter import SILENT, Reporter


def is_head(folder: Path) -> bool:
    """Whether a folder holds a head, rather than a detector."""
    return size_of(folder / "head.json") is not None


def load_calibrated(folder: str | Path, test: bool = True) -> tuple[Head, Calibration]:
    """Load a calibrated head, and test that it still computes the scores of its probes.

    Raises
    ------
    DataError, CacheCorrupt
        As :func:`featood.load_head`.
    NotFitted
        If it has no threshold.
    Mismatch
        If the test fails.
    """
    head = load_head(folder)
    if (calibration := head.calibration) is None:
        raise NotFitted(
            f"the head in {folder} has no threshold; choose one with featood threshold, or head.calibrate"
        )
    if test:
        calibration.probes.check_head(head)
    return head, calibration


def read_features(head: Head, path: str, reporter: Reporter = SILENT) -> FeatureSet:
    """Read the columns that a head needs from a file.

    Parameters
    ----------
    head : Head
        A fitted head. If it was fitted on a table, the file is one with the same columns, which are scaled as then;
        otherwise it has arrays ``[N, D]`` with the names of the columns, or a single array for a single column.
    path : str
        A file of any format that ``featood import`` reads, or its address.
    reporter : Reporter
        Receives a line about each choice made.

    Raises
    ------
    DataError
        If the file cannot be read, or lacks a column.
    """
    record = head.record
    needed = list(record.sizes) or ["logits" if "logits" in head.needs else "features"]
    if (table := record.recipe.get(TABLE)) is not None:
        known = list(table["columns"])
        if ALPHABET in table:
            raise UsageError(
                f"{head.name} was fitted on sequences; import {path} with featood import --tokens, and score it"
            )
        left_out = [name for name in read_columns(path).names if name and name not in known]
        rows = read_table(path, like=known, unlike=left_out)
        for note in rows.notes:
            reporter.line(f"{path}: {note}")
        rows = Scaling.from_json(table["scale"])(rows.with_columns(known))
        return FeatureSet({needed[0]: rows.features}, ids=rows.ids, fingerprint=record.fingerprint, name=path)
    arrays = read_array(path)
    if len(needed) == 1 and len(arrays) == 1:
        arrays = {needed[0]: next(iter(arrays.values()))}
    if missing := [name for name in needed if name not in arrays]:
        raise DataError(
            f"{path} has no array '{missing[0]}', which {head.name} reads (it has: {', '.join(arrays)})"
        )
    columns = {name: arrays[name] for name in needed}
    if flat := [name for name, values in columns.items() if values.ndim != 2]:
        raise DataError(f"{path} has one value per row as {flat[0]}; {head.name} reads arrays [N, D]")
    ids = arrays.get("ids", np.arange(len(columns[needed[0]])))
    return FeatureSet(
        columns, logits=columns.pop("logits", None), ids=ids, fingerprint=record.fingerprint, name=path
    )


def predict_rows(
    head: Head, names: Iterable[str], lines: Iterable[str] = (), reporter: Reporter = SILENT
) -> Iterator[Prediction]:
    """Decide on the rows of files, which are named by the file and their number, or their entry in ``ids``.

    Parameters
    ----------
    head : Head
        A calibrated head.
    names, lines
        Files, see :func:`read_features`; ``-`` for names from `lines`.
    reporter : Reporter
        Receives a line about each choice made.
    """
    for path in names_of(names, lines):
        features = read_features(head, path, reporter)
        decided, classes = head.predict(features), predicted_classes(features.logits)
        for row, name in enumerate(np.asarray(features.ids)):
            yield Prediction(
                f"{path}#{name}", float(decided.scores[row]), float(decided.p_values[row]),
                bool(decided.out[row]), None if classes is None else int(classes[row]),
            )  # fmt: skip
