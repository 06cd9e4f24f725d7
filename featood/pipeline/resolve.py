"""Resolution of names to sets: cached, joined from several backbones, generated, or newly extracted."""

from __future__ import annotations

__all__ = ["TestSets", "find_ood_set", "find_set", "find_test_sets", "images_folder", "missing_sets"]

import dataclasses
import re
from collections.abc import Sequence

from featood.cache.feature_cache import CacheEntry, FeatureCache, slug
from featood.cache.feature_set import FeatureSet
from featood.cache.manifest import differing
from featood.data.selection import with_limit
from featood.engines import LOCAL, Engine
from featood.errors import DataError, Mismatch, UsageError
from featood.pipeline.full_spectrum import refuse_overlap, shifted_names
from featood.pipeline.leakage import dataset_name, overlap
from featood.pipeline.selection import OOD, Selection
from featood.reporter import SILENT, Reporter

PLAIN = re.compile(r"[a-z0-9-]+")
"""Canonical spelling of dataset names in tables."""


@dataclasses.dataclass(frozen=True)
class TestSets:
    """The sets on which heads are scored."""

    test: FeatureSet
    """In-distribution rows."""
    outliers: dict[str, FeatureSet]
    """Out-of-distribution sets by name."""
    missing: tuple[str, ...] = ()
    """Sets of a suite that could not be found."""
    shifted: dict[str, FeatureSet] = dataclasses.field(default_factory=dict)
    """Sets by name that count as in-distribution, too."""

    @property
    def warnings(self) -> list[str]:
        """Warnings about the choice of sets."""
        left_out = f"sets that could not be found are left out: {', '.join(self.missing)}"
        return [left_out] if self.missing else []

    @property
    def in_distribution(self) -> str:
        """Keys and numbers of rows of the sets that count as in-distribution."""
        parts = [
            f"{features.name} ({len(features)} rows)" for features in (self.test, *self.shifted.values())
        ]
        return " joined with ".join(filter(None, (parts[0], ", ".join(parts[1:]))))


def find_test_sets(
    selection: Selection,
    names: Sequence[str],
    suites: Sequence[str] = (),
    *,
    shifted: Sequence[str] = (),
    split: str = "",
    limit: int = 0,
    reporter: Reporter = SILENT,
) -> TestSets:
    """Find the in-distribution rows to score, and out-of-distribution sets by name.

    Parameters
    ----------
    selection : Selection
        The in-distribution extraction.
    names, suites : sequence of str
        Out-of-distribution sets and named lists of them. A set of a list that cannot be found is left out; a set given
        by name that cannot be found is an error.
    shifted : sequence of str
        Sets that count as in-distribution, too, and named lists of them.
    split : str
        In-distribution split; see :meth:`Selection.test_split`.
    limit : int
        Use only so many images of each set, evenly spaced, under names such as ``svhn:limit=500``; 0 for all.
    reporter : Reporter
        Receives a line about each set that is made or left out.

    Raises
    ------
    UsageError
        If no out-of-distribution set is named, or a shifted set is one of them or the in-distribution set.
    DataError
        If a named set, or every set of the lists, cannot be found.
    """
    test = selection.open(selection.test_split(split))
    listed: list[str] = []
    if suites:
        from featood.data.catalogue.suites import suite

        listed = [name for group in suites for name in suite(group)]
    if not (names or listed):
        raise UsageError(
            "name what to score against: --ood NAME (such as textures) or --suite NAME (such as cifar10-near)"
        )
    named, further = shifted_names(shifted)
    if limit:
        if "transform" not in test.recipe:
            raise UsageError(
                f"{test.name} was not extracted from images, so its sets have no --limit; omit it"
            )
        names, listed, named, further = (
            [with_limit(name, limit) for name in group] for group in (names, listed, named, further)
        )
    keys, others = map(_key, (*named, *further)), map(_key, (*names, *listed))
    refuse_overlap(dataset_name(test), keys, others)  # before anything is extracted
    inliers, lacking = _find_all(selection, test, named, further, reporter)
    found, missing = _find_all(selection, test, names, listed, reporter)
    return TestSets(test, found, (*lacking, *missing), inliers)


def images_folder(selection: Selection, reference: FeatureSet) -> str | None:
    """Return the folder of images: that of the selection, or else of the reference set; None for the default."""
    assert reference.origin is not None
    return selection.data_dir or reference.origin.run.get("data_dir")


def missing_sets(selection: Selection, reference: FeatureSet, names: Sequence[str]) -> list[str]:
    """Return the names of sets that are neither in the cache nor, for images, in the folder of images.

    Nothing is extracted, and no image is read.
    """
    from featood.data import available_splits

    where = images_folder(selection, reference)
    from_images = "transform" in reference.recipe
    return [
        name
        for name in names
        if _entry(selection.cache, reference, name) is None
        and not (from_images and available_splits(name, where))
    ]


def _find_all(
    selection: Selection, test: FeatureSet, names: Sequence[str], listed: Sequence[str], reporter: Reporter
) -> tuple[dict[str, FeatureSet], list[str]]:
    """Find sets given by name, and those of lists; return them with the names of listed ones that are missing."""
    wanted = list(dict.fromkeys([*names, *listed]))
    found, missing = {}, []
    if (
        not selection.download and "transform" in test.recipe
    ):  # a wrong name is said before others are extracted
        _require_images(selection, test, names)
    for name in wanted:
        try:
            if selection.download:
                _download(selection, test, name, reporter)
            found[name] = find_set(
                selection.cache, test, name, data_dir=selection.data_dir, engine=selection.engine,
                reporter=reporter,
            )  # fmt: skip
        except DataError as error:
            if name in names:
                raise
            missing.append(name)
            reporter.line(f"left out: {error}")
    if missing and not found:
        raise DataError(
            f"none of the sets {', '.join(wanted)} could be found; the lines above say where each is expected"
        )
    return found, missing


def _require_images(selection: Selection, reference: FeatureSet, names: Sequence[str]) -> None:
    """Open the images of the sets that are not in the cache."""
    from featood.data import open_dataset

    where = images_folder(selection, reference)
    for name in names:
        if _entry(selection.cache, reference, name) is None:
            open_dataset(name, data_dir=where)
            _refuse_other_list(reference, name, where)


def _refuse_other_list(reference: FeatureSet, name: str, where: str | None) -> None:
    """Raise if a set has only the rows of an image list that is not that of the benchmarks of the reference set."""
    from featood.data import image_list_of, list_benchmarks

    known = dataset_name(reference).partition(":list=")[0]
    own = [one.lists for one in list_benchmarks().values() if one.dataset == known and one.lists]
    other = image_list_of(name, where) if own and ":list=" not in name else ""
    if other and other not in own:
        base = name.partition(":")[0]
        raise DataError(
            f"{base}: there is only the image list of {other}, and {known} has lists of its own: name the set as "
            f"{base}:list={own[0]}, or as {base}:list={other} for the rows of {other}"
        )


def _download(selection: Selection, reference: FeatureSet, name: str, reporter: Reporter) -> None:
    """Download a set that is neither in the cache nor in the folder of images."""
    from featood.data import available_splits, download, get_entry

    where = images_folder(selection, reference)
    if _entry(selection.cache, reference, name) is not None or available_splits(name, where):
        return
    if get_entry(name).generate is None:
        from featood.extractors.vision import torchvision

        download(name, where, torchvision, reporter)


def find_ood_set(
    selection: Selection, train: FeatureSet, name: str, option: str, reporter: Reporter = SILENT
) -> FeatureSet:
    """Find an out-of-distribution set for fitting or validation.

    Raises
    ------
    UsageError
        If it is the in-distribution set; `option` is the command-line option, used in the message.
    DataError, Mismatch
        As :func:`find_set`.
    """
    found = find_set(
        selection.cache, train, name, data_dir=selection.data_dir, engine=selection.engine, reporter=reporter
    )
    if overlap(dataset_name(found), dataset_name(train)):
        raise UsageError(f"{name} is the in-distribution set; name another set for {option}")
    return found


def find_set(
    cache: FeatureCache,
    reference: FeatureSet,
    name: str,
    *,
    data_dir: str | None = None,
    engine: Engine = LOCAL,
    reporter: Reporter = SILENT,
) -> FeatureSet:
    """Find a set with the backbone of `reference` in the cache, or create it with the settings of `reference`.

    A set whose images have changed, or that was extracted with other settings, is extracted again. If the reference
    was computed from the sets of other backbones (joined, or with an added classifier), the set is extracted with each
    of them, and computed from the results. A backbone that is Python code runs only if `cache` was opened with its
    name, or with the network itself.

    Parameters
    ----------
    cache : FeatureCache
        Cache to search, in which new sets are stored.
    reference : FeatureSet
        A set from the cache.
    name : str
        Name of the dataset, or path of a folder of images.
    data_dir : str, optional
        Folder of the images; by default that of the reference.
    engine : Engine
        Where the set is extracted.
    reporter : Reporter
        Receives messages and progress of the extraction.

    Raises
    ------
    DataError
        If the set is not in the cache and cannot be created.
    Mismatch
        If the cached set was made with other settings and cannot be extracted again, or the weights have changed.
    """
    assert reference.origin is not None
    entry = _entry(cache, reference, name)
    if reference.origin.members:
        return _computed(cache, reference, entry, name, data_dir, engine, reporter)
    if entry is not None:
        reason = _outdated(entry, reference, name, data_dir)
        if not reason:
            return cache[entry.key]
        reporter.line(f"{name} in the cache {reason}: extracting it again")
    elif reference.origin.table is not None and name.partition(":")[0] == "table-noise":
        from featood.pipeline.table_import import import_noise

        reporter.line(f"{name} is not in the cache: generating it with the columns of {reference.name}")
        return import_noise(cache, reference, name)
    elif "transform" not in reference.recipe:
        folder = reference.name.split("/")[0]
        raise DataError(f"{folder}/{name} is not in the cache; {_how_to_add(reference)}")
    else:
        _refuse_other_list(reference, name, data_dir or reference.origin.run.get("data_dir"))
        reporter.line(f"{name} is not in the cache: extracting it with the settings of {reference.name}")
    from featood.pipeline.extraction_like import extract_like

    return extract_like(cache, reference, name, entry, data_dir=data_dir, engine=engine, reporter=reporter)


def _entry(cache: FeatureCache, reference: FeatureSet, name: str) -> CacheEntry | None:
    """Find a complete set of a dataset in the cache: its test or val split, or its only one."""
    name = _key(name)
    folder = reference.name.split("/")[0]
    candidates = [
        entry
        for entry in cache.entries()
        if entry.backbone == folder and entry.dataset == slug(name) and entry.key != reference.name
    ]
    for split in ("test", "val", *(entry.split for entry in candidates)):
        entry = next((entry for entry in candidates if entry.split == split), None)
        if entry is not None and entry.damage is not None:
            raise entry.damage
        if entry is not None and entry.complete and (split != "train" or len(candidates) == 1):
            return entry
    return None


def _key(name: str) -> str:
    """Return the name of a dataset in the cache."""
    if PLAIN.fullmatch(name):
        return name
    from featood.data.catalogue.registry import dataset_key

    return dataset_key(name)


def _outdated(entry: CacheEntry, reference: FeatureSet, name: str, data_dir: str | None) -> str:
    """Return why a cached set must be extracted again, or an empty string if it can be used.

    Raises
    ------
    Mismatch
        If it was made with other settings, and not only as a set to score against.
    """
    extracted = "transform" in reference.recipe
    if entry.manifest.backbone_fingerprint != reference.fingerprint:
        parts = differing(entry.manifest.recipe, reference.recipe) or "the backbone"
        if extracted and entry.manifest.role == OOD:
            return f"was extracted with other settings than {reference.name} (differing: {parts})"
        raise Mismatch(
            f"{entry.key} was extracted with other settings than {reference.name} (differing: {parts}); "
            f"remove {entry.folder} and score again"
        )
    if not extracted:
        return ""
    from featood.pipeline.extraction_like import changed_images

    return changed_images(entry, reference, name, data_dir)


def _computed(
    cache: FeatureCache,
    reference: FeatureSet,
    entry: CacheEntry | None,
    name: str,
    data_dir: str | None,
    engine: Engine,
    reporter: Reporter,
) -> FeatureSet:
    """Find a set for each backbone from whose sets the reference was computed, and compute the same from them."""
    from featood.pipeline.added_classifiers import CLASSIFIED, classify_like
    from featood.pipeline.ensembles import join_sets

    assert reference.origin is not None
    backbone, _, rest = reference.name.partition("/")
    try:
        sets = [
            find_set(
                cache, cache[f"{member}/{rest}"], name, data_dir=data_dir, engine=engine, reporter=reporter
            )
            for member in reference.origin.members
        ]
    except DataError:  # members that no longer exist cannot have newer images
        if entry is None:
            raise
        return cache[entry.key]
    assert sets[0].origin is not None
    changed = entry is not None and entry.manifest.inputs_sha256 != sets[0].origin.inputs_sha256
    if reference.recipe["backbone"] == CLASSIFIED:
        other = entry is not None and entry.manifest.backbone_fingerprint != reference.fingerprint
        made = entry is not None and entry.manifest.role == OOD  # for another classifier
        return classify_like(cache, reference, sets[0], overwrite=changed or (other and made), role=OOD)
    return join_sets(cache, backbone, sets, overwrite=changed, role=OOD)


def _how_to_add(reference: FeatureSet) -> str:
    """Return how to add sets of a backbone that cannot be rebuilt automatically."""
    folder = reference.name.split("/")[0]
    if str(reference.recipe["backbone"]).startswith("module:"):
        return f"extract it in Python: featood.extract(module, loader, cache=..., name='{folder}/NAME/test', ood=True)"
    return f"import it with featood import --backbone {folder}"
