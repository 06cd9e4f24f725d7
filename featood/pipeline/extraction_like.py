"""Extraction of a set with the settings of another, and detection of outdated extractions."""

from __future__ import annotations

__all__ = ["changed_images", "extract_like", "unchanged_images"]

import dataclasses
import os

from featood.cache import CacheEntry, FeatureCache, FeatureSet
from featood.cache.manifest import Manifest
from featood.data import Decoding, ImageSet, InputSet, default_data_dir, open_dataset
from featood.engines import LOCAL, Engine
from featood.errors import FeatoodError, UsageError
from featood.extractors.recipe import rebuild
from featood.pipeline.extraction import decoded_as, extract_sets, inputs_stamp
from featood.pipeline.selection import OOD
from featood.reporter import SILENT, Reporter


def extract_like(
    cache: FeatureCache,
    reference: FeatureSet,
    name: str,
    entry: CacheEntry | None = None,
    *,
    data_dir: str | None = None,
    engine: Engine = LOCAL,
    reporter: Reporter = SILENT,
) -> FeatureSet:
    """Extract a set of images with the backbone, the transform and the options of another set.

    Parameters
    ----------
    cache : FeatureCache
        Where the set is stored.
    reference : FeatureSet
        A set that was extracted from images.
    name : str
        The dataset; see :func:`featood.data.open_dataset`.
    entry : CacheEntry, optional
        The earlier extraction of the set, which is replaced.
    data_dir : str, optional
        Folder of the images; by default that of the reference.
    engine : Engine
        Where the blocks are computed.
    reporter : Reporter
        Receives messages and progress.

    Raises
    ------
    DataError
        If the images do not exist.
    UsageError, Mismatch, CacheCorrupt
        As :func:`featood.extractors.recipe.rebuild`.
    """
    origin = reference.origin
    assert origin is not None
    where = data_dir or origin.run.get("data_dir")
    images = _decoded_as(origin, open_dataset(name, None if entry is None else entry.split, where))
    backbone, transform, options = rebuild(origin, cache.code)
    if images.kind != transform.takes:
        raise UsageError(
            f"{name} is a set of {images.kind}, and {reference.name} was extracted from {transform.takes}"
        )
    # the user may have chosen the name of the folder
    backbone = dataclasses.replace(backbone, folder=reference.name.split("/")[0])
    facts = {
        **{key: origin.run[key] for key in ("weights_file", "seed", "arch_options") if key in origin.run},
        "role": OOD if entry is None else entry.manifest.role,
        "data_dir": os.path.abspath(where or default_data_dir()),
        "dataset": name,
    }
    options = dataclasses.replace(options, overwrite=entry is not None)
    done = extract_sets(
        cache, backbone, [images], transform, options, run=facts, engine=engine, reporter=reporter
    )
    return done[0].features


def changed_images(entry: CacheEntry, reference: FeatureSet, name: str, data_dir: str | None = None) -> str:
    """Return how the images of a cached set differ from the current ones, or an empty string."""
    assert reference.origin is not None
    manifest = entry.manifest
    try:
        images = open_dataset(name, entry.split, data_dir or reference.origin.run.get("data_dir"))
    except FeatoodError:  # without images, the cached features are used
        return ""
    if _is_unchanged(manifest, _decoded_as(manifest, images)):
        return ""
    if "inputs_stamp" not in manifest.run:
        return "was extracted by a version that did not identify images by their content"
    return "was extracted from images that have changed"


def unchanged_images(features: FeatureSet, data_dir: str | None = None) -> ImageSet | None:
    """Return the images from which a set was extracted; None if they are not there, or have changed."""
    origin = features.origin
    if origin is None or "inputs_stamp" not in origin.run:
        return None
    name = origin.run.get("dataset", origin.dataset)
    try:
        images = open_dataset(name, origin.split, data_dir or origin.run.get("data_dir"))
    except FeatoodError:
        return None
    images = _decoded_as(origin, images)
    return images if isinstance(images, ImageSet) and _is_unchanged(origin, images) else None


def _is_unchanged(manifest: Manifest, images: InputSet) -> bool:
    return (
        inputs_stamp(images) == manifest.run.get("inputs_stamp") or images.digest() == manifest.inputs_sha256
    )


def _decoded_as(manifest: Manifest, images: InputSet) -> InputSet:
    """Return the set with the decoding options of another set."""
    return decoded_as(images, Decoding(**manifest.run.get("decoding", {})))
