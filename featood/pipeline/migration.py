"""Migrating sets and fitted heads that earlier versions wrote to the present format.

Every format can be read, so migration is optional. The present one guards against more:

- commit records name the set that they belong to, so that one of another set is noticed;
- a fitted head has a checksum of its record, and its options have their present names.
"""

from __future__ import annotations

__all__ = ["Migration", "migrate_cache"]

import dataclasses

from featood.cache import CacheEntry, FeatureCache
from featood.cache.feature_cache import HEADS
from featood.cache.reader import commit_path
from featood.errors import FeatoodError
from featood.files import read_json, write_json
from featood.heads.artefacts.artefact import migrate_head
from featood.reporter import SILENT, Reporter


@dataclasses.dataclass
class Migration:
    """What a migration did."""

    changed: list[str] = dataclasses.field(default_factory=list)
    """Sets by key, and heads by folder."""
    current: int = 0
    """Sets and heads that needed nothing."""
    problems: list[FeatoodError] = dataclasses.field(default_factory=list)
    """Why sets and heads could not be migrated."""


def migrate_cache(cache: FeatureCache, *, reporter: Reporter = SILENT) -> Migration:
    """Migrate every set and every fitted head of a cache; what is damaged stays as it is.

    Parameters
    ----------
    cache : FeatureCache
        The cache.
    reporter : Reporter
        Takes the rows checked and in all of each set.
    """
    done = Migration()
    for entry in cache.entries():
        if problems := [entry.damage] if entry.damage else _migrate_set(cache, entry, done, reporter):
            done.problems += problems
    for path in sorted(cache.root.glob(f"*/*/{HEADS}/*/head.json")):
        try:
            if migrate_head(path.parent):
                done.changed.append(str(path.parent))
            else:
                done.current += 1
        except FeatoodError as error:
            done.problems.append(error)
    return done


def _migrate_set(
    cache: FeatureCache, entry: CacheEntry, done: Migration, reporter: Reporter
) -> list[FeatoodError]:
    if not entry.complete:  # what goes on writing it writes the present form
        return []
    records = {
        path: read_json(path)
        for block in range(entry.manifest.blocks)
        if "fingerprint" not in read_json(path := commit_path(entry.folder, block))
    }
    if not records:
        done.current += 1
        return []
    # a record must not vouch for a set that its values do not belong to
    if problems := cache.verify(entry.key, progress=reporter.task(entry.key)):
        return problems
    for path, record in records.items():
        write_json(path, {**record, "fingerprint": entry.manifest.fingerprint})
    done.changed.append(entry.key)
    return []
