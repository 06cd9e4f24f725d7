"""Extraction of the splits of a dataset."""

from __future__ import annotations

__all__ = [
    "ImageSource",
    "Network",
    "align_with_weights",
    "decoded_as",
    "extract_dataset",
    "extract_sets",
    "inputs_stamp",
    "known_accuracy",
    "network_facts",
]

import dataclasses
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from featood.cache import FeatureCache, FeatureSet
from featood.data import (
    Decoding,
    ImageSet,
    InputSet,
    available_splits,
    default_data_dir,
    download,
    likely_bits,
    open_dataset,
)
from featood.engines import LOCAL, Engine
from featood.errors import UsageError
from featood.extractors.backbones import RANDOM, Backbone, resolve_backbone
from featood.extractors.backbones.class_names import align_classes
from featood.extractors.backbones.image_size import at_image_size
from featood.extractors.extract import Extraction, ExtractOptions, extract
from featood.extractors.extras import usual_extras
from featood.extractors.inputs import InputTransform
from featood.extractors.recipe import choose_transform
from featood.extractors.transform import Transform
from featood.metrics import accuracy
from featood.metrics.sanity import doubts
from featood.pipeline.selection import OOD
from featood.reporter import SILENT, Reporter

SHOWN = 10
"""Maximum number of unreadable images that are listed."""


@dataclasses.dataclass(frozen=True)
class ImageSource:
    """A set of images, texts or recordings by name."""

    dataset: str
    """A name or a path; see :func:`featood.data.open_dataset`."""
    splits: Sequence[str] = ()
    """Names of the splits; by default all available ones."""
    data_dir: str | None = None
    """Folder of the image sets."""
    download: bool = False
    """Download the dataset if it is missing."""
    class_order: str | Path | None = None
    """File with the class names in the order of their numbers."""
    decoding: Decoding = Decoding()  # noqa: RUF009  (frozen)
    """Options for decoding the files."""

    def open(self, reporter: Reporter = SILENT) -> list[InputSet]:
        """Open the splits; `reporter` receives the progress of a download.

        Raises
        ------
        DataError
            If the images do not exist.
        """
        available = available_splits(self.dataset, self.data_dir)
        if not available and self.download:
            from featood.extractors.vision import torchvision

            available = download(self.dataset, self.data_dir, torchvision, reporter)
        wanted: Sequence[str | None] = self.splits or available or [None]
        sets = [open_dataset(self.dataset, split, self.data_dir, self.class_order) for split in wanted]
        return [decoded_as(images, self.decoding) for images in sets]


@dataclasses.dataclass(frozen=True)
class Network:
    """A backbone by name, and values of its transform that are unknown or overridden."""

    backbone: str
    """Name of the backbone; see :func:`featood.extractors.backbones.resolve_backbone`."""
    weights: str = ""
    """A file, ``FILE#ENTRY``, or ``random``; by default the published weights."""
    name: str = ""
    """Folder in the cache; by default named after backbone and weights."""
    seed: int = 0
    """Seed of random weights."""
    mean: Sequence[float] | None = None
    """Mean of the normalisation: one value, or one per channel, in [0, 1]."""
    std: Sequence[float] | None = None
    """Standard deviation of the normalisation, in the same form."""
    image_size: int | None = None
    """Side of the square input in pixels."""
    max_length: int | None = None
    """Number of tokens after which a text is cut off."""
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Options of a network of featood; see :func:`featood.nets.net_options`."""
    resize: int | None = None
    """Number of pixels to which the short side of images is resized, before the crop."""


def extract_dataset(
    cache: FeatureCache,
    source: ImageSource,
    network: Network,
    options: ExtractOptions = ExtractOptions(),  # noqa: B008  (frozen)
    *,
    without: Collection[str] = (),
    engine: Engine = LOCAL,
    reporter: Reporter = SILENT,
) -> list[Extraction]:
    """Extract the splits of a dataset with a backbone, both by name.

    Parameters
    ----------
    cache : FeatureCache
        Where the sets are stored; existing ones are kept.
    source : ImageSource
        The images.
    network : Network
        The backbone and its transform.
    options : ExtractOptions
        Which columns to extract, and how.
    without : collection of str
        Extra columns to leave out of those that the backbone has by default
        (:func:`featood.extractors.extras.usual_extras`).
    engine : Engine
        Where the blocks are computed; see :mod:`featood.engines`.
    reporter : Reporter
        Receives a line about each choice made, and the progress.

    Raises
    ------
    DataError
        If the images do not exist.
    UsageError
        If the backbone or an option is unknown.
    Mismatch
        If the cache contains other sets with these names.
    """
    sets = source.open(reporter)
    if not network.backbone:
        raise UsageError("name the network to extract with: --backbone resnet50 (see featood backbones)")
    backbone = resolve_backbone(
        network.backbone,
        network.weights,
        len(sets[0].classes) or None,
        network.seed,
        network.options,
        reporter,
    )
    if network.name:
        backbone = dataclasses.replace(backbone, folder=network.name)
    reporter.line(
        f"{network.backbone}: {backbone.resolved}, weights {backbone.weights} ({backbone.sha256[:12]})"
    )
    transform, origin = choose_transform(
        backbone,
        sets[0],
        network.mean,
        network.std,
        network.image_size,
        network.resize,
        network.max_length,
    )
    if isinstance(transform, Transform):
        backbone = at_image_size(backbone, transform.height, transform.width)
    for note in backbone.notes:
        reporter.line(f"{network.backbone}: {note}")
    reporter.line(f"transform from {origin}: {transform}")
    given = {extra.kind for extra in options.extras}
    added = [
        extra
        for extra in usual_extras(backbone.module)
        if extra.kind not in given and extra.kind not in without
    ]
    for extra in added:
        reporter.line(
            f"{network.backbone}: its outputs are a density, so the column {extra.kind} is added; "
            f"--without {extra.kind} leaves it out"
        )
    options = dataclasses.replace(
        options,
        taps=tuple(dict.fromkeys((*backbone.taps, *options.taps))),
        extras=(*options.extras, *added),
    )
    run = network_facts(network, source.dataset, source.data_dir)
    if source.class_order is None:
        sets = [align_with_weights(images, backbone, reporter) for images in sets]
    return extract_sets(cache, backbone, sets, transform, options, run=run, engine=engine, reporter=reporter)


def network_facts(network: Network, dataset: str, data_dir: str | None) -> dict[str, Any]:
    """Return what is needed to find network and images again, for the facts of a manifest."""
    facts: dict[str, Any] = {
        "seed": network.seed,
        "dataset": dataset,
        "data_dir": os.path.abspath(data_dir or default_data_dir()),
    }
    if network.options:
        facts["arch_options"] = dict(network.options)
    if network.weights:
        given = network.weights
        facts["weights_file"] = given if given == RANDOM else os.path.abspath(given)
    return facts


def align_with_weights(images: InputSet, backbone: Backbone, reporter: Reporter = SILENT) -> InputSet:
    """Renumber the classes of a set as in the weights, if the weights have names for all of them."""
    if images.labels is None or not images.classes:
        return images
    numbers = align_classes(images.classes, backbone.classes, backbone.titles)
    if numbers is None:
        return images
    if not np.array_equal(numbers, np.arange(len(backbone.classes))):
        reporter.line(
            f"{images.name}/{images.split}: {len(numbers)} classes are numbered as the {len(backbone.classes)} of "
            f"{backbone.resolved}, by their names ({images.classes[0]} is {numbers[0]}); --class-order overrides this"
        )
    titles = backbone.titles or backbone.classes
    names = tuple(
        name if name == title else f"{name} {title.split(',')[0]}"
        for name, title in zip(backbone.classes, titles, strict=True)
    )
    return images.with_classes(numbers, names)


def extract_sets(
    cache: FeatureCache,
    backbone: Backbone,
    sets: Sequence[InputSet],
    transform: InputTransform,
    options: ExtractOptions = ExtractOptions(),  # noqa: B008  (frozen)
    *,
    run: Mapping[str, Any] | None = None,
    engine: Engine = LOCAL,
    reporter: Reporter = SILENT,
) -> list[Extraction]:
    """Extract sets of images one after the other, and report notes and warnings about each.

    Parameters
    ----------
    cache, backbone, transform, options, engine
        See :func:`featood.extractors.extract.extract`.
    sets : sequence of InputSet
        See :meth:`ImageSource.open`.
    run : mapping, optional
        Further facts for the manifests.
    reporter : Reporter
        Receives messages, and the number of rows done and the total of each set.
    """
    done: list[Extraction] = []
    for images in sets:
        what = f"{images.name}/{images.split}"
        for note in (*images.notes, *_depth_note(images)):
            reporter.line(f"{what}: {note}")
        stamp = inputs_stamp(images)
        facts = {**(run or {}), "inputs_stamp": stamp}
        if lossy := transform.counts(images):
            facts["lossy"] = lossy
            for how, count in lossy.items():
                reporter.line(f"{what}: {count} of {len(images)} rows are {how} ({transform})")
        task = reporter.task(f"{backbone.slug}/{what}")
        extraction = extract(backbone, images, transform, cache, options, facts, task, engine)
        if extraction.note and not done:
            reporter.line(f"{backbone.slug}: {extraction.note}")
        done.append(extraction)
        if extraction.failed:
            reporter.line(
                f"warning: {len(extraction.failed)} {images.kind} could not be read and are left out:"
            )
            for reason in extraction.failed[:SHOWN]:
                reporter.line(f"  {reason}")
        if inputs_stamp(images) != stamp:
            reporter.line(
                f"warning: {what} changed during the extraction, so its rows may come from old and new {images.kind}; "
                "extract it again with --overwrite"
            )
        features = extraction.features
        sound = backbone.weights != RANDOM and (run or {}).get("role") != OOD
        if sound and features.logits is not None and features.labels is not None:
            for doubt in doubts(features.logits, features.labels, features.classes):
                reporter.line(f"warning: {features.name}: {doubt}")
    return done


def known_accuracy(features: FeatureSet) -> float | None:
    """Return the accuracy of a set's logits, or None if labels or logits are missing or do not match."""
    if features.labels is None or features.logits is None:
        return None
    right, total = 0.0, 0
    for block in features.select("logits", "labels").blocks():
        labels = np.asarray(block.labels)
        if labels.max() >= features.logits.shape[1]:
            return None
        if known := int((labels >= 0).sum()):
            right, total = right + known * accuracy(np.asarray(block.logits), labels), total + known
    return right / total if total else None


def decoded_as(images: InputSet, decoding: Decoding) -> InputSet:
    """Return a set with other options of decoding, which only images have."""
    return dataclasses.replace(images, decoding=decoding) if isinstance(images, ImageSet) else images


def _depth_note(images: InputSet) -> list[str]:
    """Return a note if 16-bit images seem to use fewer bits, and are therefore dark."""
    if not isinstance(images, ImageSet) or images.root is None or images.decoding.bits < 16:
        return []
    bits = likely_bits([images.root / name for name in images.ids])
    if bits is None:
        return []
    return [f"its 16-bit images seem to use only {bits} bits, and appear dark; --bits {bits} scales them"]


def inputs_stamp(images: InputSet) -> str:
    """Return a stamp that changes if a set's files change; it does not depend on the labels."""
    return dataclasses.replace(images, labels=None).stamp()
