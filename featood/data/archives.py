"""Unpacking of untrusted archives."""

from __future__ import annotations

__all__ = ["ARCHIVE_SUFFIXES", "unpack"]

import shutil
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO

from featood.errors import DataError, reading
from featood.files import create, make_folder, scratch_folder

ARCHIVE_SUFFIXES = (".tar.gz", ".tgz", ".tar", ".zip")


def unpack(
    archive: Path,
    target: Path,
    *,
    max_entries: int = 500_000,
    max_bytes: int = 64 << 30,
    max_ratio: int = 100,
) -> Path:
    """Unpack a tar or zip file into the new folder ``target``.

    Only plain files and folders with relative paths are accepted. The folder appears only when everything has been
    checked and written. If the archive contains a single folder, ``target`` becomes that folder.

    Parameters
    ----------
    archive : Path
        ``.tar``, ``.tar.gz``, ``.tgz`` or ``.zip``, recognised by content.
    target : Path
        Must not exist; its parent must.
    max_entries, max_bytes : int
        Limits on the number of entries and their total size.
    max_ratio : int
        Limit on the ratio of unpacked to packed size (plus 1 MiB): images hardly compress.

    Returns
    -------
    Path
        ``target``.

    Raises
    ------
    DataError
        If it is not an archive, is damaged, exceeds a limit, or contains a link, a device, or a path outside the
        folder.
    """
    budget = min(max_bytes, max_ratio * (archive.stat().st_size + (1 << 20)))
    with reading(archive), scratch_folder(target, unwrap=True) as content:
        for count, (name, size, file) in enumerate(_members(archive), 1):
            budget -= size
            if count > max_entries or budget < 0:
                raise DataError(f"{archive} is refused: too many entries or bytes for a set of images")
            path = content / _safe(name, archive)
            if file is None:
                make_folder(path)
                continue
            with file, create(path) as out:
                shutil.copyfileobj(file, out)
        if not any(content.iterdir()):
            raise DataError(f"{archive} is empty")
    return target


def _members(archive: Path) -> Iterator[tuple[str, int, IO[bytes] | None]]:
    """Yield name, size and content (None for folders) of each entry; only files and folders are allowed."""
    if tarfile.is_tarfile(archive):
        with tarfile.open(archive) as tar:
            for member in tar:
                if not (member.isreg() or member.isdir()):
                    raise DataError(f"{archive} is refused: {member.name!r} is a link or a device")
                yield member.name, member.size, None if member.isdir() else tar.extractfile(member)
    elif zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            for info in zipped.infolist():
                kind = stat.S_IFMT(info.external_attr >> 16)
                if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise DataError(f"{archive} is refused: {info.filename!r} is a link or a device")
                yield info.filename, info.file_size, None if info.is_dir() else zipped.open(info)
    else:
        raise DataError(
            f"{archive} is not a tar or zip archive (perhaps a saved web page); download it again"
        )


def _safe(name: str, archive: Path) -> PurePosixPath:
    path = PureWindowsPath(name)  # stricter than POSIX: both kinds of slashes, and drives
    if path.anchor or ".." in path.parts or "\0" in name:
        raise DataError(f"{archive} is refused: {name!r} is outside the folder")
    return PurePosixPath(path.as_posix())
