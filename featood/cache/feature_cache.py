"""FeatureCache: a folder of FeatureSets keyed by backbone, dataset and split."""

from __future__ import annotations

__all__ = ["CacheEntry", "FeatureCache", "open_cache", "slug"]

import dataclasses
import datetime
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from featood.cache.feature_set import Classifier, FeatureSet
from featood.cache.garbage import collect, garbage
from featood.cache.manifest import FILE, Manifest
from featood.cache.reader import commit_path, open_set, verify
from featood.cache.writer import SetWriter
from featood.errors import CacheCorrupt, DataError, FeatoodError, UsageError
from featood.files import folders_below, size_of


@dataclasses.dataclass(frozen=True)
class CacheEntry:
    """One set of a cache, known from its manifest alone."""

    backbone: str
    dataset: str
    split: str
    folder: Path
    manifest: Manifest
    committed: int
    """Number of committed blocks."""

    @property
    def key(self) -> str:
        """``backbone/dataset/split``."""
        return f"{self.backbone}/{self.dataset}/{self.split}"

    @property
    def complete(self) -> bool:
        """Whether every block has a commit record."""
        return self.committed == self.manifest.blocks

    @property
    def created(self) -> str:
        """When the extraction began (ISO 8601, UTC)."""
        return str(self.manifest.run.get("created", ""))

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
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

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
        if size_of(folder / FILE) is None:
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
        """Where a set stands."""
        return self.root / slug(backbone) / slug(dataset) / slug(split)

    def heads_folder(self, backbone: str, dataset: str) -> Path:
        """Where the heads fitted on a dataset's features are kept."""
        return self.root / slug(backbone) / slug(dataset) / "heads"

    def entries(self) -> list[CacheEntry]:
        """List the sets, newest first; a set whose manifest cannot be read is left to ``verify``."""
        found = []
        for folder in self._folders():
            try:
                manifest = Manifest.load(folder)
            except FeatoodError:
                continue
            backbone, dataset, split = folder.relative_to(self.root).parts
            committed = sum(
                size_of(commit_path(folder, block)) is not None for block in range(manifest.blocks)
            )
            found.append(CacheEntry(backbone, dataset, split, folder, manifest, committed))
        return sorted(found, key=lambda entry: (entry.created, entry.key), reverse=True)

    def _folders(self) -> list[Path]:
        """List the folders that have a manifest, readable or not."""
        return [folder for folder in folders_below(self.root, 3) if size_of(folder / FILE) is not None]

    def keys(self, wanted: Sequence[str] = ()) -> list[str]:
        """Keys of the sets that have a manifest, readable or not; those asked for, where any are.

        Raises
        ------
        DataError
            When one asked for is not there.
        """
        there = [folder.relative_to(self.root).as_posix() for folder in self._folders()]
        for key in wanted:
            if key not in there:
                raise DataError(
                    f"{key} is not in the cache {self.root} (it holds: {', '.join(sorted(there))})"
                )
        return sorted(wanted or there)

    def verify(
        self, key: str, drop: bool = False, progress: Callable[[int, int], None] | None = None
    ) -> list[CacheCorrupt]:
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
        """List what ``gc`` may remove; see :func:`featood.cache.garbage.garbage`."""
        return garbage(self.root, incomplete, older_than)

    def collect(self, rubbish: list[Path]) -> list[Path]:
        """Remove what :meth:`garbage` listed; see :func:`featood.cache.garbage.collect`."""
        return collect(rubbish)


def open_cache(root: str | Path = "feature_cache") -> FeatureCache:
    """Open the cache under a folder."""
    return FeatureCache(root)


def slug(name: str) -> str:
    """Turn a name into one safe folder name: ``timm:resnet50.a1_in1k`` becomes ``timm-resnet50.a1_in1k``.

    Raises
    ------
    UsageError
        When nothing usable is left.
    """
    text = re.sub(r"[^A-Za-z0-9._@+-]+", "-", name).strip("-.")
    if not text:
        raise UsageError(f"'{name}' cannot be used as a name; use letters, digits, '.', '_' or '-'")
    return text


def _parts(key: str) -> tuple[str, str, str]:
    parts = key.split("/")
    if len(parts) != 3 or not all(parts):
        raise UsageError(f"'{key}' is not of the form backbone/dataset/split")
    return parts[0], parts[1], parts[2]
