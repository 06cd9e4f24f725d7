"""Extraction of a sample of the pixels or patches of images, to fit heads on."""

from __future__ import annotations

__all__ = ["DenseOptions", "extract_pixels"]

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from featood.cache import ColumnSpec, FeatureCache, FeatureSet, Manifest, library_versions
from featood.cache.reader import encode_ids
from featood.data.masked.layouts import open_masked
from featood.data.masked.masked_set import MaskedSet
from featood.errors import DataError, UsageError
from featood.extractors.backbones import Backbone, resolve_backbone
from featood.extractors.backbones.image_size import at_image_size
from featood.extractors.dense import LOGITS, DenseForward, image_maps, plan_dense
from featood.extractors.forward import column_specs, ready
from featood.extractors.inputs import image_transform
from featood.extractors.recipe import DENSE, choose_transform, input_recipe
from featood.extractors.transform import Transform
from featood.numerics.devices import pick_device
from featood.pipeline.extraction import Network, network_facts
from featood.reporter import SILENT, Reporter


@dataclasses.dataclass(frozen=True)
class DenseOptions:
    """Options of the extraction of pixels or patches.

    Parameters
    ----------
    taps, window
        See :func:`featood.extractors.dense.plan_dense`.
    pixels : int
        Number of rows of each image, drawn without replacement from its in-distribution pixels; 0 for all of them.
    seed : int
        Seed of the draw.
    image_size : (int, int), optional
        Height and width of the input; images are resized to it, without a crop. By default the size of the first one.
    dtype : str
        Stored type of the features, ``float16`` or ``float32``.
    batch_size : int
        Images per forward pass.
    device : str
        ``auto`` selects a GPU if there is one.
    overwrite : bool
        Replace a set that was extracted with other settings.
    """

    taps: Sequence[str] = ()
    window: int = 3
    pixels: int = 100
    seed: int = 0
    image_size: tuple[int, int] | None = None
    dtype: str = "float16"
    batch_size: int = 8
    device: str = "auto"
    overwrite: bool = False


def extract_pixels(
    cache: FeatureCache,
    dataset: str,
    splits: Sequence[str],
    network: Network,
    options: DenseOptions = DenseOptions(),
    *,
    data_dir: str | None = None,
    reporter: Reporter = SILENT,
) -> list[FeatureSet]:
    """Cache the features of a sample of the in-distribution pixels of images with masks.

    A row has the id ``IMAGE@ROW,COLUMN``, with the position on the grid of features; its label is that of the nearest
    pixel of the mask, if the masks have classes.

    Parameters
    ----------
    cache : FeatureCache
        Where the sets are stored.
    dataset : str
        See :func:`featood.data.masked.layouts.open_masked`.
    splits : sequence of str
        The splits to extract.
    network : Network
        The network; its image size is that of the options.
    options : DenseOptions
        What to extract.
    data_dir : str, optional
        Folder of the sets.
    reporter : Reporter
        Receives a line about each choice made, and the progress.

    Raises
    ------
    DataError
        If the images do not exist or cannot be read.
    UsageError
        If the backbone is unknown, or does not return maps.
    Mismatch
        If the cache contains other sets with these names.
    """
    if not network.backbone:
        raise UsageError("name the network to extract with: --backbone tv:deeplabv3_resnet50")
    sets = [open_masked(dataset, split, data_dir) for split in splits]
    images = sets[0].images
    backbone = resolve_backbone(
        network.backbone,
        network.weights,
        len(images.classes) or None,
        network.seed,
        network.options,
        reporter,
    )
    if network.name:
        backbone = dataclasses.replace(backbone, folder=network.name)
    base, origin = choose_transform(backbone, images, network.mean, network.std)
    height, width = options.image_size or images.read(0).shape[:2]
    base = image_transform(base, backbone.name)
    transform = dataclasses.replace(base, height=height, width=width, resize=0, fit="short")
    backbone = at_image_size(backbone, height, width)
    for note in backbone.notes:
        reporter.line(f"{network.backbone}: {note}")
    reporter.line(f"transform from {origin}, without a crop: {transform}")
    run = {
        **network_facts(network, dataset, data_dir),
        "name": backbone.name,
        "weights": backbone.weights,
        "taps": list(options.taps),
        "pools": None,
        "batch_size": options.batch_size,
        "resampled_sha256": backbone.resampled_sha256,
    }
    with ready(backbone.module, pick_device(options.device)) as module:
        example = torch.zeros(2, *transform.shape, device=pick_device(options.device))
        forward = DenseForward(module, plan_dense(module, example, options.taps, options.window))
        if forward.plan.note:
            reporter.line(f"{network.backbone}: {forward.plan.note}")
        return [
            _extract(cache, backbone, forward, masked, transform, options, run, reporter) for masked in sets
        ]


def _extract(
    cache: FeatureCache,
    backbone: Backbone,
    forward: DenseForward,
    masked: MaskedSet,
    transform: Transform,
    options: DenseOptions,
    run: Mapping[str, Any],
    reporter: Reporter,
) -> FeatureSet:
    images, key = masked.images, f"{backbone.slug}/{masked.images.name}/{masked.images.split}"
    for note in images.notes:
        reporter.line(f"{images.name}/{images.split}: {note}")
    plan = forward.plan
    columns, ids = _sampled(forward, masked, transform, options, reporter.task(f"extracting {key}"))
    if not ids:
        raise DataError(f"{key} has no in-distribution pixels")
    if not masked.meaning.by_class:
        del columns["labels"]
    elif LOGITS in columns and columns["labels"].max() >= columns[LOGITS].shape[1]:
        raise DataError(
            f"{key} has pixels of class {columns['labels'].max()}, but the network has only {columns[LOGITS].shape[1]} "
            "classes; use one that was trained on these classes, in this order"
        )
    specs = {
        name: ColumnSpec(values.shape[1:], str(values.dtype))
        for name, values in columns.items()
        if name != "labels"
    }
    specs = column_specs(specs, "labels" in columns, ids)
    recipe = {
        **input_recipe(backbone, transform),
        DENSE: plan.as_json(),
        "main": plan.main,
        "dtype": options.dtype,
        "precision": "float32",
    }
    manifest = Manifest(
        recipe=recipe,
        data={
            "dataset": images.name,
            "split": images.split,
            "inputs_sha256": masked.digest(),
            "pixels": options.pixels,
            "seed": options.seed,
        },
        columns=specs,
        rows=len(ids),
        store="zarr",
        main=plan.main,
        versions=library_versions(),
        run={**run, "classes": list(images.classes)},
    )
    columns["ids"] = encode_ids(ids, specs["ids"].shape[0])
    with cache.writer(key, manifest, plan.classifier(forward.module), options.overwrite) as writer:
        for block in writer.pending():
            span = writer.span(block)
            writer.write(block, {name: values[span] for name, values in columns.items()})
        return writer.finish(key)


def _sampled(
    forward: DenseForward,
    masked: MaskedSet,
    transform: Transform,
    options: DenseOptions,
    progress: Callable[[int, int], None],
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return the columns of the rows that are drawn from each image, with their classes as labels, and their ids."""
    parts: dict[str, list[np.ndarray]] = {}
    ids: list[str] = []
    every = image_maps(forward, masked.images, transform, options.batch_size, options.dtype)
    for number, (maps, shape) in enumerate(every):
        grid = _nearest(masked.mask(number, shape), forward.plan.grid)
        rows = np.flatnonzero(grid >= 0)
        if options.pixels and len(rows) > options.pixels:
            draw = np.random.default_rng([options.seed, number])
            rows = np.sort(draw.choice(rows, options.pixels, replace=False))
        for name, values in maps.items():
            parts.setdefault(name, []).append(values.reshape(grid.size, -1)[rows])
        parts.setdefault("labels", []).append(grid.ravel()[rows].astype(np.int64))
        image = masked.images.ids[number]
        ids += [f"{image}@{row // grid.shape[1]},{row % grid.shape[1]}" for row in rows]
        progress(number + 1, len(masked))
    return {name: np.concatenate(values) for name, values in parts.items()}, ids


def _nearest(mask: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Return the values of a mask at the centres of the positions of a grid."""
    rows, columns = (
        np.minimum((np.arange(count) + 0.5) * size / count, size - 1).astype(int)
        for count, size in zip(grid, mask.shape, strict=True)
    )
    return mask[np.ix_(rows, columns)]
