"""Data sets as Hugging Face's ``Dataset.save_to_disk`` leaves them: folders of Arrow files."""

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
    """Folders of the splits of a saved ``DatasetDict``; none where the path is no such folder.

    Raises
    ------
    DataError
        When a split that the folder lists is not in it.
    """
    if not (path / SPLITS).is_file():
        return {}
    names = _json(path / SPLITS).get("splits")
    if not isinstance(names, list) or not names or not all(_inside(path, name).is_dir() for name in names):
        raise DataError(f"{path / SPLITS} lists splits that are not there; save the data set again")
    return {name: path / name for name in names}


def _read(path: Path) -> Columns:
    import pyarrow as pa

    if splits := split_folders(path):
        raise DataError(
            f"{path} holds the splits {', '.join(splits)}; name one of them: {path / next(iter(splits))}"
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
    """Return a file's path; a list of files names nothing outside its folder."""
    if problem := name_problem(name):
        raise DataError(
            f"{folder} lists a file outside itself, or under a name that {problem}: {str(name)[:80]!r}"
        )
    return folder / name


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise DataError(f"{path} is not what Dataset.save_to_disk writes")
    return value


READER = Reader(
    title="Hugging Face data set folder",
    endings=(),
    read=_read,
    folder=lambda path: (path / STATE).is_file() or (path / SPLITS).is_file(),
)
