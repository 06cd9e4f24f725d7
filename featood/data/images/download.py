"""Downloading sets with torchvision."""

from __future__ import annotations

__all__ = ["download"]

import os
from pathlib import Path
from typing import Any

from featood.data.images.opening import available_splits, default_data_dir
from featood.data.images.registry import get_entry
from featood.errors import DataError
from featood.files import make_folder


def download(name: str, data_dir: str | os.PathLike[str] | None, torchvision: Any) -> list[str]:
    """Download a set into ``DIR/<name>/``; torchvision checks MD5 sums where it has them.

    Parameters
    ----------
    name : str
        A registered set; a selector after a colon is ignored.
    data_dir : path, optional
        Default: :func:`featood.data.default_data_dir`.
    torchvision : module
        The imported package, which this layer does not import itself.

    Returns
    -------
    list of str
        The splits available afterwards.

    Raises
    ------
    UsageError
        If the name is unknown.
    DataError
        If torchvision does not support it, or the download fails.
    """
    entry = get_entry(name)
    root = default_data_dir() if data_dir is None else Path(data_dir)
    folder = root / entry.name
    if entry.download is None:
        raise DataError(
            f"torchvision cannot download {entry.name}: get it from {entry.source} and put it into {folder}/"
        )
    kind, calls = entry.download
    try:
        make_folder(folder)
        for options in calls:
            getattr(torchvision.datasets, kind)(root=str(folder), download=True, **options)
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"{entry.name} could not be downloaded into {folder}: {reason}") from error
    splits = available_splits(entry.name, root)
    if not splits:
        raise DataError(f"{entry.name} was downloaded, but is not in {folder}; download it manually")
    return splits
