"""Selection of the extraction to use: the newest, unless another is named."""

from __future__ import annotations

__all__ = ["Selection", "select"]

import dataclasses
from collections.abc import Sequence

from featood.cache.feature_cache import CacheEntry, FeatureCache, slug
from featood.cache.feature_set import FeatureSet
from featood.engines import LOCAL, Engine
from featood.errors import CacheCorrupt, DataError, UsageError

OOD = "ood"
"""Role of sets that were extracted only to be scored against."""


@dataclasses.dataclass(frozen=True)
class Selection:
    """A backbone's features of one in-distribution dataset."""

    cache: FeatureCache
    backbone: str
    dataset: str
    entries: dict[str, CacheEntry]
    """Sets by split, oldest first; opening one that is damaged or incomplete raises an error."""
    data_dir: str | None = None
    """Folder of the images of further sets; by default that of the extraction."""
    download: bool = False
    """Whether sets to score against are downloaded if they are missing."""
    engine: Engine = LOCAL
    """Where sets are extracted, and heads fitted and scored."""

    def open(self, split: str) -> FeatureSet:
        """Open one split."""
        return self.cache[f"{self.backbone}/{self.dataset}/{split}"]

    def train_split(self, split: str = "") -> str:
        """Return the split to fit on: `split`, by default ``train``.

        Raises
        ------
        DataError
            If it is not in the cache.
        """
        wanted = split or "train"
        if wanted not in self.entries:
            raise DataError(
                f"{self.backbone}/{self.dataset} has no {wanted} split in the cache (it has: "
                f"{', '.join(self.entries)}); extract it, or choose another by --split or --dataset"
            )
        return wanted

    def test_split(self, split: str = "") -> str:
        """Return the split to score: `split`, by default ``test`` or else ``val``.

        Raises
        ------
        DataError
            If it is not in the cache.
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


def select(
    cache: FeatureCache, backbone: str = "", dataset: str = "", data_dir: str | None = None
) -> Selection:
    """Choose the newest in-distribution extraction that matches.

    Sets that were extracted only to be scored against are chosen if `dataset` names one, and no other set of this name
    matches: the test set of one network may be the training set of another.

    Parameters
    ----------
    cache : FeatureCache
        Cache to search.
    backbone : str
        Name of a backbone or of its folder. A name without weights also matches a folder with weights
        (``mnist-convnet`` finds ``mnist-convnet@baseline``). A backbone that is Python code matches at any path.
    dataset : str
        Name of a dataset.
    data_dir : str, optional
        Folder of the images of further sets.

    Raises
    ------
    DataError
        If nothing matches.
    UsageError
        If the name of a backbone matches several sets of weights, and none exactly.
    CacheCorrupt, Mismatch
        If the newest match is damaged, incomplete or written by a newer version of featood; an older one is not used
        instead.
    """
    everything = cache.entries()
    if not everything:
        raise DataError(f"the cache {cache.root} is empty; start with featood extract (or featood import)")
    entries = _of_backbone(everything, backbone) if backbone else everything
    if dataset:
        entries = [entry for entry in entries if entry.dataset == slug(dataset)]
    inside = [entry for entry in entries if _maybe_in_distribution(entry)]
    newest = next(iter(inside or (entries if dataset else [])), None)
    if newest is None:
        have = sorted({f"{entry.backbone}/{entry.dataset}" for entry in everything})
        wanted = "/".join(filter(None, (backbone, dataset))) or "an in-distribution set"
        raise DataError(
            f"{wanted} is not in the cache {cache.root} (it holds: {', '.join(have)}); extract it first"
        )
    if not (backbone and dataset):
        _require_complete(newest)
    splits = {
        entry.split: entry
        for entry in reversed(everything)
        if (entry.backbone, entry.dataset) == (newest.backbone, newest.dataset)
    }
    return Selection(cache, newest.backbone, newest.dataset, splits, data_dir)


def _of_backbone(entries: Sequence[CacheEntry], backbone: str) -> list[CacheEntry]:
    if backbone.startswith("python:"):
        from featood.extractors.backbones.backbone import code_name

        backbone = code_name(backbone)
    elif backbone.startswith(("st:", "hf:")):
        from featood.extractors.backbones.backbone import model_folder

        backbone = model_folder(backbone)
    wanted = slug(backbone)
    found = {entry.backbone for entry in entries if entry.backbone == wanted}
    found = found or {entry.backbone for entry in entries if entry.backbone.split("@")[0] == wanted}
    if len(found) > 1:
        raise UsageError(f"--backbone {backbone} could be {' or '.join(sorted(found))}; name one of them")
    return [entry for entry in entries if entry.backbone in found]


def _maybe_in_distribution(entry: CacheEntry) -> bool:
    """Return whether a set may be in-distribution; the role of a set with a damaged manifest is unknown."""
    return entry.damage is not None or entry.manifest.role != OOD


def _require_complete(newest: CacheEntry) -> None:
    """Raise if a set cannot be read, so that an older one is not used instead."""
    where = f"the newest set, {newest.key}"
    other = "to use another set, name it with --backbone and --dataset"
    if newest.damage is not None:
        raise type(newest.damage)(f"{where}, cannot be read: {newest.damage}; {other}")
    if not newest.complete:
        done = f"{newest.committed} of {newest.manifest.blocks} blocks are committed"
        raise CacheCorrupt(
            f"{where}, is incomplete: {done}; run the same extract again to finish it, or, {other}"
        )
