"""From names to sets: in the cache, joined from several backbones, generated, or extracted from images now."""

from __future__ import annotations

__all__ = ["TestSets", "find_ood_set", "find_set", "find_test_sets"]

import dataclasses
import re
from collections.abc import Sequence

from featood.cache.feature_cache import CacheEntry, FeatureCache, slug
from featood.cache.feature_set import FeatureSet
from featood.cache.manifest import differing
from featood.errors import DataError, Mismatch, UsageError
from featood.pipeline.leakage import dataset_name, overlap
from featood.pipeline.selection import OOD, Selection
from featood.reporter import SILENT, Reporter

PLAIN = re.compile(r"[a-z0-9-]+")
"""Names that every table of data sets writes in the same way."""


@dataclasses.dataclass(frozen=True)
class TestSets:
    """What heads are scored on."""

    test: FeatureSet
    """In-distribution rows."""
    outliers: dict[str, FeatureSet]
    """Out-of-distribution sets by name."""
    missing: tuple[str, ...] = ()
    """Sets of a suite that could not be found."""

    @property
    def warnings(self) -> list[str]:
        """What a reader of the results must know of the choice of sets."""
        left_out = f"sets that were not there are left out: {', '.join(self.missing)}"
        return [left_out] if self.missing else []


def find_test_sets(
    selection: Selection,
    names: Sequence[str],
    suites: Sequence[str] = (),
    *,
    split: str = "",
    reporter: Reporter = SILENT,
) -> TestSets:
    """Find the in-distribution rows to score, and out-of-distribution sets by name.

    Parameters
    ----------
    selection : Selection
        The in-distribution extraction.
    names, suites : sequence of str
        Out-of-distribution sets and named lists of them. A set of a list that cannot be found is left out; one that
        is named itself is an error.
    split : str
        In-distribution split; see :meth:`Selection.test_split`.
    reporter : Reporter
        Takes a line about each set that is made or left out.

    Raises
    ------
    UsageError
        When no set is named.
    DataError
        When a named set, or every set of the lists, cannot be found.
    """
    test = selection.open(selection.test_split(split))
    listed: list[str] = []
    if suites:
        from featood.data.images.suites import suite

        listed = [name for group in suites for name in suite(group)]
    wanted = list(dict.fromkeys([*names, *listed]))
    if not wanted:
        raise UsageError("name what to score against: --ood textures, or a list such as --suite cifar10-near")
    found, missing = {}, []
    for name in wanted:
        try:
            found[name] = find_set(
                selection.cache, test, name, data_dir=selection.data_dir, reporter=reporter
            )
        except DataError as error:
            if name in names:
                raise
            missing.append(name)
            reporter.line(f"left out: {error}")
    if not found:
        raise DataError(f"none of the sets {', '.join(wanted)} is there")
    return TestSets(test, found, tuple(missing))


def find_ood_set(
    selection: Selection, train: FeatureSet, name: str, option: str, reporter: Reporter = SILENT
) -> FeatureSet:
    """Find a set to fit or validate with that is not the in-distribution one.

    Raises
    ------
    UsageError
        When it is the in-distribution set; `option` is what the user named it by.
    DataError, Mismatch
        As :func:`find_set`.
    """
    found = find_set(selection.cache, train, name, data_dir=selection.data_dir, reporter=reporter)
    if overlap(dataset_name(found), dataset_name(train)):
        raise UsageError(f"{name} is the in-distribution set; name another for {option}")
    return found


def find_set(
    cache: FeatureCache,
    reference: FeatureSet,
    name: str,
    *,
    data_dir: str | None = None,
    reporter: Reporter = SILENT,
) -> FeatureSet:
    """Find a set of the same backbone as `reference` in the cache; else make it in the way `reference` was made.

    A set whose images have changed, or that was extracted in another way, is extracted again. Where the reference
    was joined from the sets of several backbones, each of these extracts the set, and the results are joined. A
    backbone that is Python code runs only if `cache` was opened with its name, or with the network itself.

    Parameters
    ----------
    cache : FeatureCache
        Where to look, and where new sets go.
    reference : FeatureSet
        A set from the cache.
    name : str
        Name of the dataset, or path of a folder of images.
    data_dir : str, optional
        Folder of the images; by default where the reference's were.
    reporter : Reporter
        Takes a line, and the progress, of what is made.

    Raises
    ------
    DataError
        When the set is neither in the cache nor can be made here.
    Mismatch
        When the cache holds it made in another way that cannot be repeated, or the weights have changed since.
    """
    assert reference.origin is not None
    entry = _entry(cache, reference, name)
    if reference.origin.members:
        return _joined(cache, reference, entry, name, data_dir, reporter)
    if entry is not None:
        reason = _outdated(entry, reference, name, data_dir)
        if not reason:
            return cache[entry.key]
        reporter.line(f"{name} in the cache {reason}: extracting it again")
    elif reference.origin.table is not None and name.partition(":")[0] == "table-noise":
        from featood.pipeline.table_import import import_noise

        reporter.line(f"{name} is not in the cache: making it as wide as {reference.name}")
        return import_noise(cache, reference, name)
    elif "transform" not in reference.recipe:
        folder = reference.name.split("/")[0]
        raise DataError(f"{folder}/{name} is not in the cache; {_how_to_add(reference)}")
    else:
        reporter.line(f"{name} is not in the cache: extracting it as {reference.name} was")
    from featood.pipeline.extraction_like import extract_like

    return extract_like(cache, reference, name, entry, data_dir=data_dir, reporter=reporter)


def _entry(cache: FeatureCache, reference: FeatureSet, name: str) -> CacheEntry | None:
    """Find a complete set of a dataset in the cache: its test or val split, or its only one."""
    if not PLAIN.fullmatch(name):
        from featood.data.images.naming import dataset_key

        name = dataset_key(name)
    folder = reference.name.split("/")[0]
    there = [
        entry
        for entry in cache.entries()
        if entry.backbone == folder and entry.dataset == slug(name) and entry.key != reference.name
    ]
    for split in ("test", "val", *(entry.split for entry in there)):
        entry = next((entry for entry in there if entry.split == split), None)
        if entry is not None and entry.damage is not None:
            raise entry.damage
        if entry is not None and entry.complete and (split != "train" or len(there) == 1):
            return entry
    return None


def _outdated(entry: CacheEntry, reference: FeatureSet, name: str, data_dir: str | None) -> str:
    """Say why a cached set must be extracted again; empty where it can be used.

    Raises
    ------
    Mismatch
        When it was made in another way, and not just to be scored against.
    """
    extracted = "transform" in reference.recipe
    if entry.manifest.backbone_fingerprint != reference.fingerprint:
        parts = differing(entry.manifest.recipe, reference.recipe) or "the backbone"
        if extracted and entry.manifest.role == OOD:
            return f"was extracted in another way than {reference.name} (differing: {parts})"
        raise Mismatch(
            f"{entry.key} was extracted in another way than {reference.name} (differing: {parts}); "
            f"remove {entry.folder} and score again"
        )
    if not extracted:
        return ""
    from featood.pipeline.extraction_like import changed_images

    return changed_images(entry, reference, name, data_dir)


def _joined(
    cache: FeatureCache,
    reference: FeatureSet,
    entry: CacheEntry | None,
    name: str,
    data_dir: str | None,
    reporter: Reporter,
) -> FeatureSet:
    """Find a set with each member of a deep ensemble, and join what they give."""
    from featood.pipeline.ensembles import join_sets

    assert reference.origin is not None
    backbone, _, rest = reference.name.partition("/")
    try:
        sets = [
            find_set(cache, cache[f"{member}/{rest}"], name, data_dir=data_dir, reporter=reporter)
            for member in reference.origin.members
        ]
    except DataError:  # members that are gone can have no newer images
        if entry is None:
            raise
        return cache[entry.key]
    assert sets[0].origin is not None
    changed = entry is not None and entry.manifest.inputs_sha256 != sets[0].origin.inputs_sha256
    return join_sets(cache, backbone, sets, overwrite=changed, role=OOD)


def _how_to_add(reference: FeatureSet) -> str:
    """Say how sets are added of a backbone that cannot be built here."""
    folder = reference.name.split("/")[0]
    if str(reference.recipe["backbone"]).startswith("module:"):
        return f"extract it in Python: featood.extract(module, loader, cache=..., name='{folder}/NAME/test', ood=True)"
    return f"import it with featood import --backbone {folder}"
