"""All readers, and finding the one for a file."""

from __future__ import annotations

__all__ = ["read_columns", "what_is_read"]

import os
import zipfile
from pathlib import Path

from featood.errors import DataError, FeatoodError, UsageError
from featood.readers import (
    arrow_files,
    dataset_folders,
    fasta_files,
    hdf5_files,
    lance_folders,
    matlab_files,
    numpy_files,
    tensor_files,
    text,
    tfrecord_files,
)
from featood.readers.columns import Columns, Reader
from featood.remote import local_file

_READERS = (
    text.READER,
    dataset_folders.READER,
    lance_folders.READER,
    arrow_files.PARQUET,
    arrow_files.ARROW,
    numpy_files.READER,
    tensor_files.SAFETENSORS,
    tensor_files.TORCH,
    hdf5_files.READER,
    matlab_files.READER,
    fasta_files.READER,
    tfrecord_files.READER,
)
_COMPRESSED = (text.READER, fasta_files.READER, tfrecord_files.READER)
"""Readers of files that may be compressed."""
OBJECTS = (".pkl", ".pickle", ".joblib", ".dill", ".p")
"""Extensions of files that may run code when they are loaded."""


def what_is_read() -> str:
    """List the formats in one line."""
    return ", ".join(
        f"{reader.title} ({' '.join(reader.endings)})" if reader.endings else reader.title
        for reader in _READERS
    )


def read_columns(path: str | os.PathLike[str], header: bool | None = None, label: str = "") -> Columns:
    """Read a file, or a folder that is a data set, without running code from it.

    Parameters
    ----------
    path : path
        The file or folder, or the address of a file (``hf://...``, ``https://...``, or another that fsspec opens); its
        format is recognised by its first bytes, otherwise by its extension.
    header, label
        For text files; see :func:`featood.readers.text.read_text`.

    Raises
    ------
    DataError
        If it is missing, damaged, empty, or of an unsupported format; the message lists the supported ones.
    UsageError
        If `header` is given for a file that is not text.
    """
    path = local_file(os.fspath(path))
    if not path.exists():
        raise DataError(f"{path} does not exist")
    reader = _find(path)
    if header is not None and reader is not text.READER:
        raise UsageError(f"--header applies to text files of separated values only; {path} is {reader.title}")
    try:
        columns = text.read_text(path, header, label) if reader is text.READER else reader.read(path)
    except (FeatoodError, PermissionError, MemoryError):
        raise
    except Exception as error:  # libraries raise many types of errors on damaged files
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{path} cannot be read as {reader.title} ({reason})") from None
    if not columns.names:
        raise DataError(f"{path} contains no array{f' ({columns.notes[0]})' if columns.notes else ''}")
    return columns


def _find(path: Path) -> Reader:
    if path.is_dir():
        found = next((reader for reader in _READERS if reader.folder(path)), None)
        if found is None:
            raise DataError(f"{path} is a folder, but not a data set; give a file in it")
        return found
    name = path.name.lower()
    if name.endswith(OBJECTS):
        raise DataError(
            f"{path} contains Python objects, which are never loaded; supported formats are {what_is_read()}"
        )
    with open(path, "rb") as file:
        first = file.read(4096)
    plain = name
    for packed in text.PACKED:
        plain = plain.removesuffix(packed)
    by_ending = next(
        (reader for reader in _READERS if reader.endings and name.endswith(reader.endings)), None
    )
    by_ending = next((reader for reader in _COMPRESSED if plain.endswith(reader.endings)), by_ending)
    by_magic = next(
        (reader for reader in _READERS if first.startswith(reader.magic) or reader.begins(first)), None
    )
    if by_ending is matlab_files.READER:  # newer files are HDF5, so their first bytes do not identify them
        return by_ending
    if (reader := by_magic or by_ending) is not None:
        return reader
    if first.startswith(b"PK") and zipfile.is_zipfile(path):
        inside = zipfile.ZipFile(path).namelist()
        if any(entry.endswith(".npy") for entry in inside):
            return numpy_files.READER
        if any(entry.endswith("/data.pkl") for entry in inside):
            return tensor_files.TORCH
    if first and b"\0" not in first and not first.lstrip().startswith((b"{", b"[", b"<", b"@")):
        return text.READER
    raise DataError(f"{path} is not in a supported format; supported formats are {what_is_read()}")
