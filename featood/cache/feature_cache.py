"""FeatureCache: a folder of FeatureSets keyed by backbone, dataset and split."""

from __future__ import annotations

__all__ = ["CacheEntry", "FeatureCache", "open_cache", "slug"]

import dataclasses
import datetime
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from featood.cache.feature_set import Classifier, FeatureSet
from featood.cache.manifest import FILE, Manifest
from featood.cache.reader import committed_blocks, open_set, verify
from featood.cache.writer import SetWriter, leftovers, lock
from featood.errors import CacheCorrupt, DataError, FeatoodError, UsageError
from featood.names import check_name

HEADS = "heads"
"""Folder of fitted heads, beside the splits of their dataset."""


@dataclasses.dataclass(frozen=True)
class CacheEntry:
    """One set of a cache, known from its manifest alone.

    A set whose manifest cannot be read is an entry as well, with a `damage`: whoever asks for what the manifest says
    gets that error, so that no damaged set is passed over for another.
    """

    backbone: str
    dataset: str
    split: str
    folder: Path
    _manifest: Manifest | None
    committed: int
    """Number of committed blocks."""
    damage: FeatoodError | None = None
    """Why the manifest cannot be read."""

    @property
    def key(self) -> str:
        """``backbone/dataset/split``."""
        return f"{self.backbone}/{self.dataset}/{self.split}"

    @property
    def manifest(self) -> Manifest:
        """What the set is.

        Raises
        ------
        CacheCorrupt, Mismatch
            When the manifest is damaged, or of a newer featood.
        """
        if self._manifest is None:
            assert self.damage is not None
            raise self.damage
        return self._manifest

    @property
    def complete(self) -> bool:
        """Whether every block has a commit record."""
        return self.damage is None and self.committed == self.manifest.blocks

    @property
    def created(self) -> str:
        """When the extraction began (ISO 8601, UTC); of a damaged set, when its manifest was last written."""
        if self.damage is None and (stamp := str(self.manifest.run.get("created", ""))):
            return stamp
        path = self.folder / FILE
        seconds = (path if path.exists() else self.folder).stat().st_mtime
        changed = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
        return changed.isoformat(timespec="microseconds")

    @property
    def bytes(self) -> int:
        """Size on disk."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())


class FeatureCache:
    """The sets under one root folder: ``<root>/<backbone>/<dataset>/<split>/``.

    Parameters
    ----------
    root : path
        Made when the first set is written.
    code : sequence
        Code that further sets may be extracted with, where the cache says that code made it: names such as
        ``python:MODULE:CALLABLE``, or networks. What only the cache names is never run.
    """

    def __init__(self, root: str | Path, code: Sequence[Any] = ()) -> None:
        self.root = Path(root)
        self.code = tuple(code)

    def __repr__(self) -> str:
        return f"FeatureCache({str(self.root)!r}: {len(self.entries())} sets)"

    def __getitem__(self, key: str) -> FeatureSet:
        """Open ``backbone/dataset/split``.

        Raises
        ------
        DataError
            When there is no such set; the text lists what there is.
        CacheCorrupt
            When the set is incomplete or damaged.
        """
        folder = self.folder(*_parts(key))
        if not _is_set(folder):
            have = ", ".join(self) or "nothing yet"
            raise DataError(f"{key} is not in the cache {self.root} (it holds: {have}); extract it first")
        return open_set(folder, key)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and key in set(self)

    def __iter__(self) -> Iterator[str]:
        return (entry.key for entry in self.entries())

    def __len__(self) -> int:
        return len(self.entries())

    def folder(self, backbone: str, dataset: str, split: str) -> Path:
        """Where a set stands.

        Raises
        ------
        UsageError
            When a name cannot be that of a folder, or is one that the cache itself uses.
        """
        if slug(split).lower() == HEADS:
            raise UsageError(
                f"a split cannot be called '{split}': fitted heads are kept there; choose another name"
            )
        return self.root / slug(backbone) / slug(dataset) / slug(split)

    def heads_folder(self, backbone: str, dataset: str) -> Path:
        """Where the heads fitted on a dataset's features are kept."""
        return self.root / slug(backbone) / slug(dataset) / HEADS

    def entries(self) -> list[CacheEntry]:
        """List the sets, newest first; of one whose manifest cannot be read the entry says why."""
        found = []
        for folder in self._folders():
            damage, manifest = None, None
            try:
                manifest = Manifest.load(folder)
            except (FeatoodError, OSError) as error:
                if not _is_set(folder):  # removed meanwhile
                    continue
                damage = (
                    error if isinstance(error, FeatoodError) else CacheCorrupt(f"{folder / FILE}: {error}")
                )
            backbone, dataset, split = folder.relative_to(self.root).parts
            committed = len(committed_blocks(folder, manifest)) if manifest else 0
            found.append(CacheEntry(backbone, dataset, split, folder, manifest, committed, damage))
        return sorted(found, key=lambda entry: (entry.created, entry.key), reverse=True)

    def _folders(self) -> list[Path]:
        return [folder for folder in self.root.glob("*/*/*") if _is_set(folder)]

    def keys(self, wanted: Sequence[str] = ()) -> list[str]:
        """Keys of the sets, readable or not; those asked for, where any are.

        Raises
        ------
        DataError
            When one asked for is not there.
        """
        there = [path.parent.relative_to(self.root).as_posix() for path in self.root.glob(f"*/*/*/{FILE}")]
        for key in wanted:
            if key not in there:
                raise DataError(
                    f"{key} is not in the cache {self.root} (it holds: {', '.join(sorted(there))})"
                )
        return sorted(wanted or there)

    def verify(
        self, key: str, drop: bool = False, progress: Callable[[int, int], None] | None = None
    ) -> list[FeatoodError]:
        """Check every value of a set; see :func:`featood.cache.reader.verify`."""
        return verify(self.folder(*_parts(key)), drop, progress)

    def writer(
        self,
        key: str,
        manifest: Manifest,
        classifier: Classifier | None = None,
        overwrite: bool = False,
    ) -> SetWriter:
        """Return the writer of a set; see :class:`SetWriter`."""
        stamp = datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")
        manifest = dataclasses.replace(manifest, run={"created": stamp, **manifest.run})
        return SetWriter(self.folder(*_parts(key)), manifest, classifier, overwrite)

    def garbage(self, incomplete: bool = False, older_than: float = 3600.0) -> list[Path]:
        """List what ``gc`` may remove: scratch files of killed writers and, on request, unfinished sets.

        Nothing is listed that a process holds the lock of, or that changed within `older_than` seconds:
        on a file system without locks, age is all there is to go by.
        """
        rubbish: list[Path] = []
        for folder in self.root.glob("*/*/*"):
            if not folder.is_dir():
                continue
            if folder.name == HEADS:
                rubbish += [path for path in leftovers(folder) if _age(path) >= older_than]
                continue
            held = lock(folder)
            if held is None:
                continue
            held.close()
            if incomplete and not _complete(folder):
                rubbish += [folder] if _age(folder) >= older_than else []
            else:
                rubbish += [path for path in leftovers(folder) if _age(path) >= older_than]
        return rubbish

    def collect(self, rubbish: Sequence[Path]) -> None:
        """Remove what :meth:`garbage` listed."""
        for path in rubbish:
            if path.is_dir():
                # the records go first: a kill in between must not leave a set that looks whole
                shutil.rmtree(path / "commits", ignore_errors=True)
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def remove(self, keys: Sequence[str]) -> list[Path]:
        """Remove sets, damaged or not; heads that were fitted on them stay.

        Raises
        ------
        DataError
            When one is not there.
        UsageError
            When a process is writing one.
        """
        folders = [self.root / key for key in self.keys(keys)] if keys else []
        for folder in folders:
            held = lock(folder)
            if held is None:
                raise UsageError(f"another process is writing {folder}; wait for it to end")
            held.close()
        self.collect(folders)
        return folders


def open_cache(root: str | Path = "feature_cache", code: Sequence[Any] = ()) -> FeatureCache:
    """Open the cache under a folder; see :class:`FeatureCache`."""
    return FeatureCache(root, code)


def slug(name: str) -> str:
    """Turn a name into one safe folder name: ``timm:resnet50.a1_in1k`` becomes ``timm-resnet50.a1_in1k``.

    Raises
    ------
    UsageError
        When nothing usable is left, or it is a name that some system does not allow.
    """
    text = re.sub(r"[^A-Za-z0-9._@+-]+", "-", name).strip("-.")
    if not text:
        raise UsageError(f"'{name}' cannot be used as a name; use letters, digits, '.', '_' or '-'")
    return check_name(text, "a part of the cache")


def _parts(key: str) -> tuple[str, str, str]:
    parts = key.split("/")
    if len(parts) != 3 or not all(parts):
        raise UsageError(f"'{key}' is not of the form backbone/dataset/split")
    return parts[0], parts[1], parts[2]


def _is_set(folder: Path) -> bool:
    """Whether a folder holds a set: blocks are committed only under a manifest, which may have been lost since."""
    return (folder / FILE).exists() or any((folder / "commits").glob("*.json"))


def _complete(folder: Path) -> bool:
    try:
        manifest = Manifest.load(folder)
    except FeatoodError:
        return False
    return len(committed_blocks(folder, manifest)) == manifest.blocks


def _age(path: Path) -> float:
    """Seconds since a file, or anything in a folder, last changed."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.name != ".lock"]
    return time.time() - max((file.stat().st_mtime for file in files), default=0.0)
