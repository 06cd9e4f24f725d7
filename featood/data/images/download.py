"""Fetching the sets that torchvision knows how to fetch."""

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
    """Fetch a set into ``DIR/<name>/``; torchvision checks the MD5 sums it knows.

    Parameters
    ----------
    name : str
        A registered set; what follows a colon is ignored.
    data_dir : path, optional
        Default: :func:`featood.data.default_data_dir`.
    torchvision : module
        The imported package; this floor does not import it.

    Returns
    -------
    list of str
        The splits that are there now.

    Raises
    ------
    UsageError
        If the name is unknown.
    DataError
        If torchvision cannot fetch it, or fails.
    """
    entry = get_entry(name)
    root = default_data_dir() if data_dir is None else Path(data_dir)
    folder = root / entry.name
    if entry.download is None:
        raise DataError(f"torchvision cannot fetch {entry.name}: get it from {entry.source} into {folder}/")
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
        raise DataError(f"{entry.name} was downloaded, but {folder} does not hold it; fetch it by hand")
    return splits
