"""Pixels or patches as rows: a sample of them in the cache to fit heads on, and score maps of whole images."""

from __future__ import annotations

__all__ = ["DenseOptions", "MapScores", "extract_pixels", "score_maps"]

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from featood.cache import ColumnSpec, FeatureCache, FeatureSet, Manifest, library_versions
from featood.cache.reader import encode_ids
from featood.data import default_data_dir
from featood.data.masked.layouts import open_masked
from featood.data.masked.masked_set import MaskedSet
from featood.errors import DataError, Mismatch, UsageError
from featood.extractors.backbones import RANDOM, Backbone, resolve_backbone
from featood.extractors.backbones.image_size import at_image_size
from featood.extractors.code import code_recipe
from featood.extractors.dense import LOGITS, DenseForward, plan_dense
from featood.extractors.forward import column_specs, ready
from featood.extractors.recipe import DENSE, choose_transform, rebuild
from featood.extractors.transform import Transform
from featood.heads.base.head import Head
from featood.metrics import auroc, component_metrics, image_scores, pixel_metrics, region_overlap
from featood.numerics.devices import pick_device
from featood.pipeline.extraction import Network
from featood.pipeline.selection import Selection
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
    transform = dataclasses.replace(base, height=height, width=width, resize=0, fit="short")
    backbone = at_image_size(backbone, height, width)
    for note in backbone.notes:
        reporter.line(f"{network.backbone}: {note}")
    reporter.line(f"transform from {origin}, without a crop: {transform}")
    run: dict[str, Any] = {
        "name": backbone.name,
        "weights": backbone.weights,
        "seed": network.seed,
        "dataset": dataset,
        "data_dir": os.path.abspath(data_dir or default_data_dir()),
        "taps": list(options.taps),
        "pools": None,
        "batch_size": options.batch_size,
        "resampled_sha256": backbone.resampled_sha256,
    }
    if network.options:
        run["arch_options"] = dict(network.options)
    if network.weights:
        run["weights_file"] = (
            network.weights if network.weights == RANDOM else os.path.abspath(network.weights)
        )
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
    parts: dict[str, list[np.ndarray]] = {}
    ids: list[str] = []
    plan = forward.plan
    for number, (maps, shape) in enumerate(
        _maps(forward, masked, transform, options.batch_size, options.dtype)
    ):
        grid = _nearest(masked.mask(number, shape), plan.grid)
        rows = np.flatnonzero(grid >= 0)
        if options.pixels and len(rows) > options.pixels:
            draw = np.random.default_rng([options.seed, number])
            rows = np.sort(draw.choice(rows, options.pixels, replace=False))
        for name, values in maps.items():
            parts.setdefault(name, []).append(values.reshape(grid.size, -1)[rows])
        parts.setdefault("labels", []).append(grid.ravel()[rows].astype(np.int64))
        ids += [f"{images.ids[number]}@{row // grid.shape[1]},{row % grid.shape[1]}" for row in rows]
        reporter.progress(f"extracting {key}", number + 1, len(masked))
    columns = {name: np.concatenate(values) for name, values in parts.items()}
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
        "backbone": backbone.resolved,
        "weights_sha256": backbone.sha256,
        "transform": transform.as_json(),
        **({"backbone_options": dict(backbone.options)} if backbone.options else {}),
        **({"positions_resampled_from": list(backbone.resampled)} if backbone.resampled else {}),
        **(code_recipe(backbone.module)[0] if backbone.resolved.startswith("python:") else {}),
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


def _maps(
    forward: DenseForward, masked: MaskedSet, transform: Transform, batch_size: int, dtype: str
) -> Iterator[tuple[dict[str, np.ndarray], tuple[int, ...]]]:
    """Yield the columns ``[h, w, D]`` of each image in the types of the cache, and the shape of the image."""
    images = masked.images
    device = next(forward.module.parameters()).device
    for start in range(0, len(masked), batch_size):
        pixels = [images.read(row) for row in range(start, min(start + batch_size, len(masked)))]
        found = forward(transform(pixels).to(device))
        values = {
            name: maps.cpu().numpy().astype("float32" if name == LOGITS else dtype)
            for name, maps in found.items()
        }
        for number, image in enumerate(pixels):
            yield {name: maps[number] for name, maps in values.items()}, image.shape[:2]


def _nearest(mask: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Return the values of a mask at the centres of the positions of a grid."""
    rows, columns = (
        np.minimum((np.arange(count) + 0.5) * size / count, size - 1).astype(int)
        for count, size in zip(grid, mask.shape, strict=True)
    )
    return mask[np.ix_(rows, columns)]


@dataclasses.dataclass
class MapScores:
    """Score maps of images by several heads."""

    masked: MaskedSet
    masks: list[np.ndarray]
    """Mask ``[H, W]`` of each image."""
    maps: dict[str, list[np.ndarray]]
    """Scores ``[H, W]`` of each image by head, float32, at the resolution of the mask."""

    def rows(self, limit: float = 0.3, min_size: int = 0) -> list[dict[str, Any]]:
        """Return the metrics of each head.

        `ppv` is None if it predicts no component, and `image_auroc`, of the highest score of each image, if all images
        have out-of-distribution pixels.

        Parameters
        ----------
        limit, min_size
            See :func:`featood.metrics.region_overlap` and :func:`featood.metrics.component_metrics`.

        Raises
        ------
        DataError
            If the images have no out-of-distribution pixels.
        """
        rows = []
        for label, maps in self.maps.items():
            parts = component_metrics(maps, self.masks, min_size=min_size)
            found = {"siou": parts.siou, "ppv": None if np.isnan(parts.ppv) else parts.ppv, "f1": parts.f1}
            found["pro"] = region_overlap(maps, self.masks, limit)
            clean, out = image_scores(maps, self.masks)
            found["image_auroc"] = auroc(clean, out) if len(clean) else None
            rows.append({"head": label, **pixel_metrics(maps, self.masks), **found})
        return rows


def score_maps(
    selection: Selection,
    heads: Mapping[str, Head],
    dataset: str = "",
    split: str = "test",
    *,
    device: str = "auto",
    reporter: Reporter = SILENT,
) -> MapScores:
    """Score every pixel of images by heads that were fitted on sampled pixels.

    The network and its input are those of the selection. Scores are computed for each position of the grid of
    features, and resized to the mask by bilinear interpolation.

    Parameters
    ----------
    selection : Selection
        Pixels in the cache, see :func:`extract_pixels`.
    heads : mapping of str to Head
        Fitted heads by label.
    dataset : str
        The images; by default those of the selection.
    split : str
        Their split.
    device : str
        Device of the network.
    reporter : Reporter
        Receives notes, and the progress.

    Raises
    ------
    UsageError
        If the rows of the selection are no pixels.
    Mismatch
        If the network has changed since.
    """
    reference = selection.open(next(iter(selection.entries)))
    origin = reference.origin
    if origin is None or DENSE not in origin.recipe:
        raise UsageError(f"the rows of {reference.name} are no pixels; extract them by featood dense extract")
    where = selection.data_dir or origin.run.get("data_dir")
    masked = open_masked(dataset or origin.run["dataset"], split, where)
    for note in masked.images.notes:
        reporter.line(f"{masked.images.name}/{split}: {note}")
    backbone, transform, options = rebuild(origin, selection.cache.code, dense=True)
    found = MapScores(masked, [], {label: [] for label in heads})
    with ready(backbone.module, pick_device(device)) as module:
        example = torch.zeros(2, *transform.shape, device=pick_device(device))
        plan = plan_dense(module, example, options.taps, origin.recipe[DENSE]["window"])
        if plan.as_json() != origin.recipe[DENSE]:
            raise Mismatch(
                f"{backbone.name} no longer returns the maps of {reference.name}; extract them again"
            )
        forward = DenseForward(module, plan)
        for number, (maps, shape) in enumerate(_maps(forward, masked, transform, 1, options.dtype)):
            rows = {name: values.reshape(-1, values.shape[-1]) for name, values in maps.items()}
            logits = rows.pop(LOGITS, None)
            pixels = FeatureSet(
                rows,
                logits=logits,
                classifier=reference.classifier,
                main=plan.main,
                fingerprint=reference.fingerprint,
                name=masked.images.ids[number],
            )
            found.masks.append(masked.mask(number, shape))
            for label, head in heads.items():
                scores = torch.from_numpy(np.asarray(head.score(pixels), np.float32)).view(1, 1, *plan.grid)
                resized = functional.interpolate(scores, shape, mode="bilinear", align_corners=False)
                found.maps[label].append(resized[0, 0].numpy())
            reporter.progress("scoring", number + 1, len(masked))
    return found
