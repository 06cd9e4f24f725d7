"""FeatureCache: a folder of FeatureSets keyed by backbone, dataset and split."""

from __future__ import annotations

__all__ = ["CacheEntry", "FeatureCache", "open_cache", "slug"]

import dataclasses
import datetime
import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from featood.cache.commits import commit_folders, committed_blocks
from featood.cache.feature_set import Classifier, FeatureSet
from featood.cache.manifest import FILE, Manifest
from featood.cache.reader import open_set
from featood.errors import CacheCorrupt, DataError, FeatoodError, UsageError
from featood.names import check_name, label_of
from featood.objects import Location, location
from featood.storage import children, each, folders_below, modified, size_below, size_of

if TYPE_CHECKING:
    from featood.cache.writer import SetWriter

HEADS = "heads"
"""Name of the folder of fitted heads, next to the splits of their dataset."""
MAPS = "maps"
"""Name of the folder of score maps, next to the splits of the dataset that heads were fitted on."""


@dataclasses.dataclass(frozen=True)
class CacheEntry:
    """One set of a cache, described by its manifest.

    A set whose manifest cannot be read also has an entry, with the error in `damage`; accessing its manifest raises
    this error, so that a damaged set is never silently skipped.
    """

    backbone: str
    dataset: str
    split: str
    folder: Location
    _manifest: Manifest | None
    committed: int
    """Number of committed blocks."""
    damage: FeatoodError | None = None
    """The error if the manifest cannot be read."""

    @property
    def key(self) -> str:
        """``backbone/dataset/split``."""
        return f"{self.backbone}/{self.dataset}/{self.split}"

    @property
    def manifest(self) -> Manifest:
        """The manifest of the set.

        Raises
        ------
        CacheCorrupt, Mismatch
            If the manifest is damaged, or was written by a newer featood.
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
        """Start of the extraction (ISO 8601, UTC); for a damaged set, modification time of its manifest."""
        if self.damage is None and (stamp := str(self.manifest.run.get("created", ""))):
            return stamp
        path = self.folder / FILE
        seconds = modified(self.folder if size_of(path) is None else path)
        changed = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
        return changed.isoformat(timespec="microseconds")

    @property
    def bytes(self) -> int:
        """Size on disk."""
        return size_below(self.folder)


class FeatureCache:
    """The sets under one root folder: ``<root>/<backbone>/<dataset>/<split>/``.

    Parameters
    ----------
    root : path
        Root folder, created when the first set is written; or a URL of object storage, such as ``s3://bucket/prefix``.
    code : sequence
        Code that may be run to extract further sets, if the sets of the cache were extracted with it: names such as
        ``python:MODULE:CALLABLE``, or networks. Code named only in the cache is never run.
    """

    def __init__(self, root: str | Location, code: Sequence[Any] = ()) -> None:
        self.root = location(root)
        self.code = tuple(code)

    def __repr__(self) -> str:
        return f"FeatureCache({str(self.root)!r}: {len(self.entries())} sets)"

    def __getitem__(self, key: str) -> FeatureSet:
        """Open ``backbone/dataset/split``.

        Raises
        ------
        DataError
            If there is no such set; the message lists the existing ones.
        CacheCorrupt
            If the set is incomplete or damaged.
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

    def folder(self, backbone: str, dataset: str, split: str) -> Any:
        """Return the folder of a set, a Path or an ObjectPath.

        Raises
        ------
        UsageError
            If a name is not valid for a folder, or is reserved by the cache.
        """
        if slug(split).lower() in (HEADS, MAPS):
            raise UsageError(
                f"a split cannot be called '{split}': fitted heads or score maps are kept there; choose another name"
            )
        return self.root / slug(backbone) / slug(dataset) / slug(split)

    def heads_folder(self, backbone: str, dataset: str) -> Any:
        """Return the folder of the heads fitted on a dataset's features."""
        return self.root / slug(backbone) / slug(dataset) / HEADS

    def maps_folder(self, backbone: str, dataset: str) -> Any:
        """Return the folder of the score maps by heads that were fitted on a dataset's features."""
        return self.root / slug(backbone) / slug(dataset) / MAPS

    def entries(self) -> list[CacheEntry]:
        """List the sets, newest first, including sets whose manifest cannot be read."""
        found = [entry for entry in each(self.root, self._entry, self._folders()) if entry is not None]
        return sorted(found, key=lambda entry: (entry.created, entry.key), reverse=True)

    def entry(self, key: str) -> CacheEntry | None:
        """Describe the set ``backbone/dataset/split``, which may be incomplete or damaged; None if there is none."""
        return self._entry(self.folder(*_parts(key)))

    def _entry(self, folder: Any) -> CacheEntry | None:
        """Describe the set in a folder; None if it was removed meanwhile."""
        damage, manifest = None, None
        try:
            manifest = Manifest.load(folder)
        except (FeatoodError, OSError) as error:
            if not _is_set(folder):
                return None
            damage = error if isinstance(error, FeatoodError) else CacheCorrupt(f"{folder / FILE}: {error}")
        backbone, dataset, split = folder.relative_to(self.root).parts
        committed = len(committed_blocks(folder, manifest)) if manifest else 0
        return CacheEntry(backbone, dataset, split, folder, manifest, committed, damage)

    def _folders(self) -> list[Any]:
        folders = folders_below(self.root, 3)
        return [
            folder for folder, there in zip(folders, each(self.root, _is_set, folders), strict=True) if there
        ]

    def keys(self, wanted: Sequence[str] = ()) -> list[str]:
        """Return the keys of the sets, readable or not, or of those in `wanted`.

        Raises
        ------
        DataError
            If a wanted set does not exist.
        """
        there = [folder.relative_to(self.root).as_posix() for folder in self._folders()]
        for key in wanted:
            if key not in there:
                raise DataError(
                    f"{key} is not in the cache {self.root} (it holds: {', '.join(sorted(there))})"
                )
        return sorted(wanted or there)

    def matching(self, wanted: Sequence[str]) -> list[CacheEntry]:
        """Return the sets named by ``backbone/dataset/split``, or by ``backbone/dataset`` for all splits.

        Raises
        ------
        DataError
            If there is none of a name.
        """
        entries = {entry.key: entry for entry in self.entries()}
        keys: list[str] = []
        for name in wanted:
            below = [key for key in entries if key.rpartition("/")[0] == name.rstrip("/")]
            keys += below or self.keys([name])
        return [entries[key] for key in dict.fromkeys(keys)]

    def fitted_heads(self, backbone: str, dataset: str) -> list[str]:
        """Return the names of the heads that were fitted on a dataset, damaged or not."""
        return [label_of(path.name) for path in folders_below(self.heads_folder(backbone, dataset), 1)]

    def verify(
        self, key: str, drop: bool = False, progress: Callable[[int, int], None] | None = None
    ) -> list[FeatoodError]:
        """Check every value of a set; see :func:`featood.cache.verification.verify`."""
        from featood.cache.verification import verify

        return verify(self.folder(*_parts(key)), drop, progress)

    def writer(
        self,
        key: str,
        manifest: Manifest,
        classifier: Classifier | None = None,
        overwrite: bool = False,
        earlier: Manifest | None = None,
    ) -> SetWriter:
        """Return the writer of a set; see :class:`SetWriter`."""
        from featood.cache.writer import SetWriter

        stamp = datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")
        manifest = dataclasses.replace(manifest, run={"created": stamp, **manifest.run})
        return SetWriter(self.folder(*_parts(key)), manifest, classifier, overwrite, earlier)

    def garbage(self, incomplete: bool = False, older_than: float = 3600.0) -> list[Any]:
        """List what ``gc`` may remove; see :func:`featood.cache.garbage.garbage`."""
        from featood.cache.garbage import garbage

        return garbage(self.root, incomplete, older_than)

    def collect(self, rubbish: list[Any]) -> list[Any]:
        """Remove what :meth:`garbage` listed; see :func:`featood.cache.garbage.collect`."""
        from featood.cache.garbage import collect

        return collect(rubbish)

    def remove(self, keys: Sequence[str]) -> list[Any]:
        """Remove sets, damaged or not; heads that were fitted on them are kept.

        Raises
        ------
        DataError
            If one of them does not exist.
        UsageError
            If a process is writing one of them.
        """
        from featood.cache.garbage import remove_set

        folders = [self.root / key for key in self.keys(keys)] if keys else []
        for folder in folders:
            remove_set(folder)
        return folders


def open_cache(root: str | Location = "feature_cache", code: Sequence[Any] = ()) -> FeatureCache:
    """Open the cache under a folder; see :class:`FeatureCache`."""
    return FeatureCache(root, code)


def slug(name: str) -> str:
    """Convert a name to a safe folder name: ``timm:resnet50.a1_in1k`` becomes ``timm-resnet50.a1_in1k``.

    Raises
    ------
    UsageError
        If the result is empty, or is not allowed on some operating system.
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


def _is_set(folder: Location) -> bool:
    """Whether a folder contains a set: a manifest, or commit records whose manifest has been lost."""
    return size_of(folder / FILE) is not None or any(
        path.name.endswith(".json") for place in commit_folders(folder) for path in children(place)
    )
