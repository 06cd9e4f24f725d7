"""Migration of sets and fitted heads written by earlier versions to the current format.

All earlier formats can be read, so migration is optional. The current format is faster and has more checks:

- a column of a block is one piece of a file, so sets are read several times faster;
- commit records contain the fingerprint of their set, so a record of another set is detected;
- the record of a fitted head has a checksum, and its options have their current names.
"""

from __future__ import annotations

__all__ = ["Migration", "migrate_cache"]

import dataclasses

from featood.cache import CacheEntry, FeatureCache
from featood.cache.conversion import convert_set
from featood.cache.feature_cache import HEADS
from featood.cache.manifest import SCHEMA
from featood.errors import FeatoodError
from featood.heads.artefacts.artefact import migrate_head
from featood.reporter import SILENT, Reporter
from featood.storage import folders_below, size_of


@dataclasses.dataclass
class Migration:
    """Result of a migration."""

    changed: list[str] = dataclasses.field(default_factory=list)
    """Migrated sets (keys) and heads (folders)."""
    current: int = 0
    """Number of sets and heads already in the current format."""
    problems: list[FeatoodError] = dataclasses.field(default_factory=list)
    """Errors of sets and heads that could not be migrated."""


def migrate_cache(cache: FeatureCache, *, reporter: Reporter = SILENT) -> Migration:
    """Migrate every set and every fitted head of a cache; damaged ones are not changed.

    Parameters
    ----------
    cache : FeatureCache
        The cache.
    reporter : Reporter
        Receives the number of rows checked and the total of each set.
    """
    done = Migration()
    for entry in cache.entries():
        if problems := [entry.damage] if entry.damage else _migrate_set(cache, entry, done, reporter):
            done.problems += problems
    for folder in folders_below(cache.root, 4):
        if folder.parent.name != HEADS or size_of(folder / "head.json") is None:
            continue
        try:
            if migrate_head(folder):
                done.changed.append(str(folder))
            else:
                done.current += 1
        except FeatoodError as error:
            done.problems.append(error)
    return done


def _migrate_set(
    cache: FeatureCache, entry: CacheEntry, done: Migration, reporter: Reporter
) -> list[FeatoodError]:
    if not entry.complete:  # an extraction that resumes it writes the current format
        return []
    # check first that the values belong to this set
    outdated = entry.manifest.schema < SCHEMA
    if outdated and (problems := cache.verify(entry.key, progress=reporter.task(entry.key))):
        return problems
    try:
        if convert_set(entry.folder, reporter.task(entry.key)):
            done.changed.append(entry.key)
        else:
            done.current += 1
    except FeatoodError as error:
        return [error]
    return []
