"""Data sets written by Hugging Face's ``Dataset.save_to_disk``: folders of Arrow files."""

from __future__ import annotations

__all__ = ["READER", "split_folders"]

import json
from pathlib import Path
from typing import Any

from featood.errors import DataError
from featood.names import name_problem
from featood.readers.columns import Columns, Reader, from_arrow

STATE, INFO, SPLITS = "state.json", "dataset_info.json", "dataset_dict.json"


def split_folders(path: Path) -> dict[str, Path]:
    """Return the folders of the splits of a saved ``DatasetDict``; empty for other paths.

    Raises
    ------
    DataError
        If a listed split is missing.
    """
    if not (path / SPLITS).is_file():
        return {}
    names = _json(path / SPLITS).get("splits")
    if not isinstance(names, list) or not names or not all(_inside(path, name).is_dir() for name in names):
        raise DataError(f"{path / SPLITS} lists splits that do not exist; save the data set again")
    return {name: path / name for name in names}


def _read(path: Path) -> Columns:
    import pyarrow as pa

    if splits := split_folders(path):
        raise DataError(
            f"{path} contains the splits {', '.join(splits)}; give one of them: {path / next(iter(splits))}"
        )
    state = _json(path / STATE)
    table = pa.concat_tables([_table(path, file) for file in state.get("_data_files", [])])
    if chosen := state.get("_indices_data_files"):
        table = table.take(pa.concat_tables([_table(path, file) for file in chosen]).column(0))
    features = _json(path / INFO).get("features") or {} if (path / INFO).is_file() else {}
    classes = {
        name: tuple(map(str, feature["names"]))
        for name, feature in features.items()
        if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and feature.get("names")
    }
    return from_arrow(table, classes=classes)


def _table(folder: Path, file: Any) -> Any:
    import pyarrow as pa

    with pa.memory_map(str(_inside(folder, file["filename"]))) as source:
        return pa.ipc.open_stream(source).read_all()


def _inside(folder: Path, name: Any) -> Path:
    """Return the path of a file, after checking that it is inside the folder."""
    if problem := name_problem(name):
        raise DataError(
            f"{folder} lists a file outside itself, or with a name that {problem}: {str(name)[:80]!r}"
        )
    return folder / name


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise DataError(
            f"{path} was not written by Dataset.save_to_disk, or is damaged; save the data set again"
        )
    return value


READER = Reader(
    title="Hugging Face data set folder",
    endings=(),
    read=_read,
    folder=lambda path: (path / STATE).is_file() or (path / SPLITS).is_file(),
)
