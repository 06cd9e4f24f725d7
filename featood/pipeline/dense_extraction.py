"""Extraction of a sample of the pixels or patches of images, to fit heads on."""

from __future__ import annotations

__all__ = ["DenseOptions", "extract_pixels"]

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from featood.cache import ColumnSpec, FeatureCache, FeatureSet, Manifest, SetWriter, library_versions
from featood.cache.reader import encode_ids
from featood.data.masked.layouts import open_masked
from featood.data.masked.masked_set import MaskedSet
from featood.errors import DataError, UsageError
from featood.extractors.backbones import Backbone, resolve_backbone
from featood.extractors.backbones.image_size import at_image_size
from featood.extractors.dense import LOGITS, DenseForward, image_maps, plan_dense, stored_type
from featood.extractors.forward import column_specs, ready
from featood.extractors.inputs import image_transform
from featood.extractors.recipe import DENSE, choose_transform, input_recipe
from featood.extractors.transform import Transform
from featood.numerics.devices import pick_device
from featood.pipeline.extraction import Network, network_facts
from featood.pipeline.pixel_draw import PixelDraw
from featood.reporter import SILENT, Reporter

BLOCK_BYTES = 1 << 26
"""Most bytes of the rows of a block, which are in memory, of a set that has many rows per image."""


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
    pixel of the mask, if the masks have classes. An interrupted extraction continues at the first missing block, and
    memory depends on the batch, not on the number of images.

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
    device = next(forward.module.parameters()).device
    shown = forward(torch.zeros(1, *transform.shape, device=device))
    specs = {
        name: ColumnSpec((values.shape[3],), stored_type(name, options.dtype))
        for name, values in shown.items()
    }
    draw = PixelDraw(masked, plan.grid, options.pixels, options.seed)
    counts, highest = draw.counts(reporter.task(f"reading the masks of {key}"))
    if not counts.any():
        raise DataError(f"{key} has no in-distribution pixels")
    if masked.meaning.by_class and LOGITS in shown and highest >= shown[LOGITS].shape[3]:
        raise DataError(
            f"{key} has pixels of class {highest}, but the network has only {shown[LOGITS].shape[3]} "
            "classes; use one that was trained on these classes, in this order"
        )
    last = plan.grid[0] * plan.grid[1] - 1
    longest = [draw.ids(number, [last])[0] for number in range(len(masked))]
    recipe = {
        **input_recipe(backbone, transform),
        DENSE: plan.as_json(),
        "main": plan.main,
        "dtype": options.dtype,
        "precision": "float32",
    }
    columns = column_specs(specs, masked.meaning.by_class, longest)
    block_rows = _block_rows(columns, options.batch_size * int(counts.max()))
    there = cache.entry(key)
    if there is not None and there.damage is None and not options.overwrite:
        block_rows = there.manifest.block_rows  # it may be interrupted, and of another batch size
    manifest = Manifest(
        recipe=recipe,
        data={
            "dataset": images.name,
            "split": images.split,
            "inputs_sha256": masked.digest(),
            "pixels": options.pixels,
            "seed": options.seed,
        },
        columns=columns,
        rows=int(counts.sum()),
        block_rows=block_rows,
        store="zarr",
        main=plan.main,
        versions=library_versions(),
        run={**run, "classes": list(images.classes)},
    )
    with cache.writer(key, manifest, plan.classifier(forward.module), options.overwrite) as writer:
        _write_missing(writer, forward, draw, counts, transform, options, reporter.task(f"extracting {key}"))
        return writer.finish(key)


def _block_rows(columns: Mapping[str, ColumnSpec], batch: int) -> int:
    """Return the rows of a block: those of a batch, as each block is stored for good before the next is computed.

    They are at most `BLOCK_BYTES`, and at least as many as those of other sets.
    """
    width = sum(math.prod(spec.shape) * np.dtype(spec.dtype).itemsize for spec in columns.values())
    return max(Manifest.block_rows, min(batch, BLOCK_BYTES // width))


def _write_missing(
    writer: SetWriter,
    forward: DenseForward,
    draw: PixelDraw,
    counts: np.ndarray,
    transform: Transform,
    options: DenseOptions,
    progress: Callable[[int, int], None],
) -> None:
    """Compute the images that have rows in missing blocks, and write these blocks."""
    pending, size = set(writer.pending()), writer.manifest.block_rows
    starts = np.append(0, counts.cumsum())
    batches = _batches(pending, starts.tolist(), size, options.batch_size)
    columns: dict[str, np.ndarray] = {}
    for number, maps, shape in image_maps(forward, draw.masked.images, transform, batches, options.dtype):
        rows, classes = draw(number, shape)
        values = {name: found.reshape(-1, found.shape[2])[rows] for name, found in maps.items()}
        if "labels" in writer.manifest.columns:
            values["labels"] = classes
        start, stop = starts[number], starts[number + 1]
        for block in range(start // size, -(-stop // size)):
            if block not in pending:
                continue
            span = writer.span(block)
            first, end = max(span.start, start), min(span.stop, stop)
            part = {name: found[first - start : end - start] for name, found in values.items()}
            names = draw.ids(number, rows[first - start : end - start])
            part["ids"] = encode_ids(names, writer.manifest.columns["ids"].shape[0])
            for name, found in part.items():
                if name not in columns:
                    columns[name] = np.empty((span.stop - span.start, *found.shape[1:]), found.dtype)
                columns[name][first - span.start : end - span.start] = found
            if end == span.stop:
                writer.write(block, columns)
                columns = {}
        progress(number + 1, len(counts))


def _batches(
    pending: AbstractSet[int], starts: Sequence[int], block_rows: int, batch_size: int
) -> list[range]:
    """Return the images to compute, given the first row of each image.

    A batch always has the same images, so rows do not depend on where an extraction was interrupted.
    """
    missing = [
        number
        for number, (start, stop) in enumerate(pairwise(starts))
        if stop > start and not pending.isdisjoint(range(start // block_rows, -(-stop // block_rows)))
    ]
    firsts = sorted({number - number % batch_size for number in missing})
    return [range(first, min(first + batch_size, len(starts) - 1)) for first in firsts]
