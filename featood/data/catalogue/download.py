"""Downloading sets: by torchvision, or from the addresses of their files."""

from __future__ import annotations

__all__ = ["download"]

import os
from pathlib import Path
from typing import Any

from featood.data.catalogue.opening import available_splits
from featood.data.catalogue.registry import get_entry
from featood.data.entry import DatasetEntry
from featood.data.naming import default_data_dir
from featood.downloads import download_file
from featood.errors import DataError
from featood.files import make_folder
from featood.reporter import SILENT, Reporter


def download(
    name: str, data_dir: str | os.PathLike[str] | None, torchvision: Any, reporter: Reporter = SILENT
) -> list[str]:
    """Download a set into ``DIR/<name>/``, or its archive into DIR; checksums are verified where there are any.

    Parameters
    ----------
    name : str
        A registered set; a selector after a colon is ignored.
    data_dir : path, optional
        Default: :func:`featood.data.default_data_dir`.
    torchvision : module
        The imported package, which this layer does not import itself.
    reporter : Reporter
        Receives the progress of files that torchvision does not download.

    Returns
    -------
    list of str
        The splits available afterwards.

    Raises
    ------
    UsageError
        If the name is unknown.
    DataError
        If the set cannot be downloaded, or the download fails.
    """
    entry = get_entry(name)
    root = default_data_dir() if data_dir is None else Path(data_dir)
    folder = root / entry.name
    try:
        if entry.download is not None:
            _by_torchvision(entry, folder, torchvision)
        elif entry.files:
            _files(entry, root, reporter)
        else:
            raise DataError(f"it has no public address: get it from {entry.source} and put it into {folder}/")
    except Exception as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise DataError(f"{entry.name} could not be downloaded into {folder}: {reason}") from error
    splits = available_splits(name, root)
    if not splits:
        raise DataError(f"{entry.name} was downloaded, but is not in {folder}; download it manually")
    return splits


def _by_torchvision(entry: DatasetEntry, folder: Path, torchvision: Any) -> None:
    assert entry.download is not None
    kind, calls = entry.download
    make_folder(folder)
    for options in calls:
        getattr(torchvision.datasets, kind)(root=str(folder), download=True, **options)


def _files(entry: DatasetEntry, root: Path, reporter: Reporter) -> None:
    for address, name, checksum in entry.files:
        path = root / name
        if path.is_file():
            continue
        reporter.line(f"downloading {address} to {path}" + ("" if checksum else "; no checksum is published"))
        try:
            download_file(address, path, checksum, reporter.task(path.name))
        except DataError as error:
            raise DataError(f"{address}: {error}; or put the file there as {path}") from error
