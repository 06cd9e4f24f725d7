"""Which extraction a command acts on: the newest, unless it is told."""

from __future__ import annotations

__all__ = ["Selection", "select"]

import dataclasses

from featood.cache import CacheEntry, FeatureCache, FeatureSet, slug
from featood.errors import DataError, UsageError

OOD = "ood"
"""Role of the sets that were only extracted to be scored against; they are no one's default."""


@dataclasses.dataclass(frozen=True)
class Selection:
    """A backbone's features of one in-distribution dataset."""

    cache: FeatureCache
    backbone: str
    dataset: str
    entries: dict[str, CacheEntry]
    """Complete sets by split."""

    def open(self, split: str) -> FeatureSet:
        """Open one split."""
        return self.cache[f"{self.backbone}/{self.dataset}/{split}"]

    def train_split(self, split: str = "") -> str:
        """Return the split to fit on: the one asked for, else ``train``.

        Raises
        ------
        DataError
            When it is not in the cache.
        """
        wanted = split or "train"
        if wanted not in self.entries:
            raise DataError(
                f"{self.backbone}/{self.dataset} has no {wanted} split in the cache (it has: "
                f"{', '.join(self.entries)}); extract it, or choose another with --split"
            )
        return wanted

    def test_split(self, split: str = "") -> str:
        """Return the split to score: the one asked for, else ``test``, else ``val``.

        Raises
        ------
        DataError
            When there is none but that of the fit.
        """
        if split:
            return self.train_split(split)
        for wanted in ("test", "val"):
            if wanted in self.entries:
                return wanted
        raise DataError(
            f"{self.backbone}/{self.dataset} has no test or val split in the cache (it has: "
            f"{', '.join(self.entries)}); extract it, or choose another with --split"
        )


def select(cache: FeatureCache, backbone: str = "", dataset: str = "") -> Selection:
    """Choose the newest in-distribution extraction that matches.

    Parameters
    ----------
    cache : FeatureCache
        Where to look.
    backbone : str
        A backbone's name or its folder's; a name also matches the folder of the same name with weights
        (``mnist-convnet`` finds ``mnist-convnet@baseline``).
    dataset : str
        A dataset's name.

    Raises
    ------
    DataError
        When nothing matches.
    UsageError
        When a backbone's name matches several sets of weights, none of them exactly.
    """
    entries = [entry for entry in cache.entries() if entry.complete]
    if not entries:
        raise DataError(f"the cache {cache.root} is empty; begin with featood extract (or featood import)")
    if backbone:
        wanted = slug(backbone)
        found = {entry.backbone for entry in entries if entry.backbone == wanted}
        found = found or {entry.backbone for entry in entries if entry.backbone.split("@")[0] == wanted}
        if len(found) > 1:
            raise UsageError(f"--backbone {backbone} could be {' or '.join(sorted(found))}; name one of them")
        entries = [entry for entry in entries if entry.backbone in found]
    if dataset:
        entries = [entry for entry in entries if entry.dataset == slug(dataset)]
    else:
        entries = [entry for entry in entries if entry.manifest.run.get("role") != OOD]
    if not entries:
        have = sorted({f"{entry.backbone}/{entry.dataset}" for entry in cache.entries()})
        asked = "/".join(filter(None, (backbone, dataset))) or "an in-distribution set"
        raise DataError(
            f"{asked} is not in the cache {cache.root} (it holds: {', '.join(have)}); extract it first"
        )
    newest = entries[0]
    splits = {
        entry.split: entry
        for entry in reversed(entries)
        if (entry.backbone, entry.dataset) == (newest.backbone, newest.dataset)
    }
    return Selection(cache, newest.backbone, newest.dataset, splits)
