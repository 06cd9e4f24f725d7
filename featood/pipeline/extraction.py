"""Extracting a dataset's splits, and extracting another set in the way an earlier one was."""

from __future__ import annotations

__all__ = [
    "align_with_weights",
    "doubts_about",
    "extract_like",
    "extract_sets",
    "known_accuracy",
    "open_splits",
]

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from featood.cache import CacheEntry, FeatureCache, FeatureSet, slug
from featood.cache.manifest import differing
from featood.data import (
    Decoding,
    ImageSet,
    available_splits,
    dataset_key,
    default_data_dir,
    download,
    likely_bits,
    open_dataset,
)
from featood.data.tables.sets import NOISE
from featood.errors import DataError, FeatoodError, Mismatch
from featood.extractors.backbones import RANDOM, Backbone
from featood.extractors.backbones.class_names import align_classes
from featood.extractors.extract import Extraction, ExtractOptions, extract
from featood.extractors.recipe import rebuild
from featood.extractors.transform import Transform
from featood.metrics import accuracy
from featood.metrics.sanity import doubts
from featood.pipeline.backbone_ensembles import join_sets
from featood.pipeline.selection import OOD
from featood.pipeline.table_import import TABLE, import_noise

Progress = Callable[[str, int, int], None]
Say = Callable[[str], None]
SHOWN = 10
"""Unreadable images that are named one by one."""


def open_splits(
    dataset: str,
    splits: Sequence[str] = (),
    data_dir: str | None = None,
    fetch: bool = False,
    class_order: str | Path | None = None,
    decoding: Decoding = Decoding(),  # noqa: B008  (frozen)
) -> list[ImageSet]:
    """Open splits of a dataset; all that are there, where none is named.

    Parameters
    ----------
    dataset : str
        A name or a path; see :func:`featood.data.open_dataset`.
    splits : sequence of str
        Their names.
    data_dir : str, optional
        Where the images are.
    fetch : bool
        Download the dataset where it is not there and torchvision can.
    class_order : path, optional
        File that names the classes in the order of their numbers.
    decoding : Decoding
        How files become pixels.

    Raises
    ------
    DataError
        When the images are not there.
    """
    there = available_splits(dataset, data_dir)
    if not there and fetch:
        from featood.extractors.vision import torchvision

        there = download(dataset, data_dir, torchvision)
    wanted: Sequence[str | None] = splits or there or [None]
    sets = [open_dataset(dataset, split, data_dir, class_order) for split in wanted]
    return [dataclasses.replace(images, decoding=decoding) for images in sets]


def align_with_weights(images: ImageSet, backbone: Backbone, say: Say = lambda text: None) -> ImageSet:
    """Give the classes of a set the numbers that they have in the weights, where these know all of them by name."""
    if images.labels is None or not images.classes:
        return images
    places = align_classes(images.classes, backbone.classes, backbone.titles)
    if places is None:
        return images
    if not np.array_equal(places, np.arange(len(backbone.classes))):
        say(
            f"{images.name}/{images.split}: {len(places)} classes are numbered as the {len(backbone.classes)} of "
            f"{backbone.resolved}, by their names ({images.classes[0]} is {places[0]}); --class-order overrules this"
        )
    titles = backbone.titles or backbone.classes
    names = tuple(
        name if name == title else f"{name} {title.split(',')[0]}"
        for name, title in zip(backbone.classes, titles, strict=True)
    )
    return images.with_classes(places, names)


def extract_sets(
    cache: FeatureCache,
    backbone: Backbone,
    sets: Sequence[ImageSet],
    transform: Transform,
    options: ExtractOptions = ExtractOptions(),  # noqa: B008  (frozen)
    run: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    say: Say = lambda text: None,
) -> list[Extraction]:
    """Extract sets of images, one after the other, and say what a user should know of each.

    Parameters
    ----------
    cache, backbone, transform, options
        See :func:`featood.extractors.extract.extract`.
    sets : sequence of ImageSet
        See :func:`open_splits`.
    run : mapping, optional
        Further facts for the manifests.
    progress : callable, optional
        Called as ``progress(what, rows done, rows in all)``.
    say : callable
        Takes one line about each thing to know.
    """
    done: list[Extraction] = []
    for images in sets:
        what = f"{images.name}/{images.split}"
        for note in (*images.notes, *_depth_note(images)):
            say(f"{what}: {note}")
        report = _named(progress, f"{backbone.slug}/{what}")
        stamp = _stamp(images)
        facts = {**(run or {}), "inputs_stamp": stamp}
        extraction = extract(backbone, images, transform, cache, options, facts, report)
        if extraction.note and not done:
            say(f"{backbone.slug}: {extraction.note}")
        done.append(extraction)
        if extraction.failed:
            say(f"warning: {len(extraction.failed)} images could not be read and are left out:")
            for reason in extraction.failed[:SHOWN]:
                say(f"  {reason}")
        if _stamp(images) != stamp:
            say(
                f"warning: {what} changed while it was extracted, so its rows may be of images from before and after; "
                "extract it again with --overwrite"
            )
        for doubt in doubts_about(extraction.features) if backbone.weights != RANDOM else ():
            say(f"warning: {extraction.features.name}: {doubt}")
    return done


def known_accuracy(features: FeatureSet) -> float | None:
    """Return the accuracy of a set's logits; None where labels or logits are missing, or do not go together."""
    if features.labels is None or features.logits is None:
        return None
    labels = np.asarray(features.labels[:])
    if not 0 <= labels.max() < features.logits.shape[1]:
        return None
    return accuracy(np.asarray(features.logits[:]), labels)


def _depth_note(images: ImageSet) -> list[str]:
    """Say that 16-bit images hold fewer bits, where they seem to: they would come out dark."""
    if images.root is None or images.decoding.bits < 16:
        return []
    bits = likely_bits([images.root / name for name in images.ids])
    if bits is None:
        return []
    return [
        f"its 16-bit images seem to use {bits} bits alone, and are read as dark ones; --bits {bits} scales them"
    ]


def _stamp(images: ImageSet) -> str:
    """Tell quickly whether a set's files may have changed; labels, which a user may number anew, do not matter."""
    return dataclasses.replace(images, labels=None).stamp()


def doubts_about(features: FeatureSet) -> list[str]:
    """Return what speaks against a set's labels and logits belonging together, a sentence each."""
    if features.logits is None or features.labels is None:
        return []
    return doubts(features.logits, features.labels, features.classes)


def extract_like(
    cache: FeatureCache,
    reference: FeatureSet,
    dataset: str,
    data_dir: str | None = None,
    progress: Progress | None = None,
    say: Say = lambda text: None,
) -> FeatureSet:
    """Return an out-of-distribution set's features, from the cache, or extracted as `reference` was.

    A set whose images have changed, or that was extracted in another way, is extracted again. For sets that were
    joined from those of several backbones, each of these extracts it, and then they are joined. A backbone that is
    Python code is run only if `cache` was opened with its name, or with the network itself.

    Raises
    ------
    DataError
        When it is neither in the cache nor are its images there.
    Mismatch
        When the cache holds it made in another way that cannot be repeated, or the weights have changed since.
    """
    folder = reference.name.split("/")[0]
    run = reference.origin["run"]
    where = data_dir or run.get("data_dir")
    entry = _cached(cache, reference, dataset_key(dataset))
    if "members" in run:
        rest = reference.name.removeprefix(folder)
        try:
            members = [
                extract_like(cache, cache[member + rest], dataset, data_dir, progress, say)
                for member in run["members"]
            ]
        except DataError:  # members that are gone can have no newer images
            if entry is None:
                raise
            return cache[entry.key]
        inputs = members[0].origin["data"]["inputs_sha256"]
        changed = entry is not None and entry.manifest.data["inputs_sha256"] != inputs
        return join_sets(cache, folder, members, changed, role=OOD)
    if entry is not None:
        if not (reason := _outdated(entry, reference, dataset, where)):
            return cache[entry.key]
        say(f"{dataset} in the cache {reason}: extracting it again")
    elif TABLE in reference.recipe and dataset.partition(":")[0] == NOISE:
        say(f"{dataset} is not in the cache: making it as wide as {reference.name}")
        return import_noise(cache, reference, dataset)
    elif "transform" not in reference.recipe:
        raise DataError(f"{folder}/{dataset} is not in the cache; {_how_it_got_there(reference)}")
    else:
        say(f"{dataset} is not in the cache: extracting it as {reference.name} was")
    images = _decoded_as(reference, open_dataset(dataset, None if entry is None else entry.split, where))
    backbone, transform, options = rebuild(reference.origin, cache.code)
    # the folder may bear a name the user chose
    backbone = dataclasses.replace(backbone, folder=folder)
    facts = {
        **{key: run[key] for key in ("weights_file", "seed") if key in run},
        "role": OOD if entry is None else entry.manifest.run.get("role", ""),
        "data_dir": os.path.abspath(where or default_data_dir()),
        "dataset": dataset,
    }
    options = dataclasses.replace(options, overwrite=entry is not None)
    return extract_sets(cache, backbone, [images], transform, options, facts, progress, say)[0].features


def _cached(cache: FeatureCache, reference: FeatureSet, dataset: str) -> CacheEntry | None:
    """Find a complete set of a dataset; its test or val split, or its only one."""
    folder = reference.name.split("/")[0]
    there = [
        entry
        for entry in cache.entries()
        if entry.backbone == folder and entry.dataset == slug(dataset) and entry.key != reference.name
    ]
    for split in ("test", "val", *(entry.split for entry in there)):
        entry = next((entry for entry in there if entry.split == split), None)
        if entry is not None and entry.damage is not None:
            raise entry.damage
        if entry is not None and entry.complete and (split != "train" or len(there) == 1):
            return entry
    return None


def _outdated(entry: CacheEntry, reference: FeatureSet, dataset: str, where: str | None) -> str:
    """Say why a cached set must be extracted again; empty where it is as it should be.

    Raises
    ------
    Mismatch
        When it was made in another way, and not just to be scored against.
    """
    if entry.manifest.backbone_fingerprint != reference.fingerprint:
        parts = differing(entry.manifest.recipe, reference.recipe) or "the backbone"
        if "transform" in reference.recipe and entry.manifest.run.get("role") == OOD:
            return f"was extracted in another way than {reference.name} (differing: {parts})"
        raise Mismatch(
            f"{entry.key} was extracted in another way than {reference.name} (differing: {parts}); "
            f"remove {entry.folder} and score again"
        )
    if "transform" not in reference.recipe:
        return ""
    try:
        images = open_dataset(dataset, entry.split, where)
    except FeatoodError:  # its images are gone, its features are not
        return ""
    run = entry.manifest.run
    images = dataclasses.replace(images, decoding=Decoding(**run.get("decoding", {})))
    if _stamp(images) == run.get("inputs_stamp") or images.digest() == entry.manifest.data["inputs_sha256"]:
        return ""
    if "inputs_stamp" not in run:
        return "was extracted when images were not yet told apart by their content"
    return "is of other images than are there now"


def _decoded_as(reference: FeatureSet, images: ImageSet) -> ImageSet:
    """Decode the files of a set as those of another one were."""
    return dataclasses.replace(images, decoding=Decoding(**reference.origin["run"].get("decoding", {})))


def _how_it_got_there(reference: FeatureSet) -> str:
    """Say how sets of a backbone that cannot be built here are added."""
    folder = reference.name.split("/")[0]
    if str(reference.recipe["backbone"]).startswith("module:"):
        return f"extract it in Python: featood.extract(module, loader, cache=..., name='{folder}/NAME/test', ood=True)"
    return f"import it with featood import --backbone {folder}"


def _named(progress: Progress | None, what: str) -> Callable[[int, int], None] | None:
    return None if progress is None else lambda done, total: progress(what, done, total)
