"""Registered sets of images, texts and recordings."""

from __future__ import annotations

__all__ = ["dataset_key", "get_entry", "list_datasets"]

import difflib
import os
from pathlib import Path

from featood.data.audio.entries import AUDIO_ENTRIES
from featood.data.entry import DatasetEntry
from featood.data.images.benchmark_entries import BENCHMARK_ENTRIES
from featood.data.images.entries import IMAGE_ENTRIES
from featood.data.naming import StrPath, checked_name, is_path, path_key
from featood.data.selection import split_limit, with_limit
from featood.data.tables.sets import refuse_table
from featood.data.texts.entries import TEXT_ENTRIES
from featood.errors import UsageError

_BY_NAME = {
    entry.name: entry for entry in (*IMAGE_ENTRIES, *BENCHMARK_ENTRIES, *TEXT_ENTRIES, *AUDIO_ENTRIES)
}


def list_datasets() -> list[DatasetEntry]:
    """List all entries."""
    return list(_BY_NAME.values())


def get_entry(name: str) -> DatasetEntry:
    """Find the entry of a set; case, ``_`` for ``-`` and a selector after a colon are ignored.

    Raises
    ------
    UsageError
        If there is none; the message suggests the closest names, or says that it is a table.
    """
    entry = _BY_NAME.get(name.partition(":")[0].lower().replace("_", "-"))
    if entry is None:
        refuse_table(name)
        near = difflib.get_close_matches(name.lower(), _BY_NAME, n=3)
        hint = f"did you mean {', '.join(near)}" if near else "see `featood datasets`"
        raise UsageError(
            f"no dataset is named {name!r}: {hint}, or ./folder for a folder of images, texts or recordings?"
        )
    return entry


def dataset_key(name: StrPath) -> str:
    """Return the name that :func:`featood.data.open_dataset` gives to a set, without opening it.

    A path, which need not exist, becomes the name of its last folder with a hash; registered names are normalised;
    other names stay unchanged.

    Raises
    ------
    UsageError
        If it cannot be the name of a set.
    """
    name, limit = split_limit(name)
    if limit:
        return with_limit(dataset_key(name), limit)
    text = checked_name(name)
    if is_path(name):
        return path_key(Path(os.path.expanduser(text)))
    base, colon, selector = text.partition(":")
    try:
        return get_entry(base).name + colon + selector
    except UsageError:
        return text
