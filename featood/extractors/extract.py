"""Extraction: images through a backbone, once, into a FeatureSet of the cache."""

from __future__ import annotations

__all__ = ["ExtractOptions", "extract"]

import dataclasses
import os
import platform
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from featood.cache import ColumnSpec, FeatureCache, FeatureSet, Manifest, library_versions
from featood.cache.reader import encode_ids
from featood.data import ImageSet
from featood.errors import DataError, UsageError
from featood.extractors.backbones import Backbone
from featood.extractors.extras import Extra, extras_to_json
from featood.extractors.taps import TapPlan, plan_taps
from featood.extractors.transform import Transform

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclasses.dataclass(frozen=True)
class ExtractOptions:
    """How to extract; what decides values goes into the fingerprint, the rest does not.

    Parameters
    ----------
    taps, pools, maps
        See :func:`featood.extractors.taps.plan_taps`.
    extras : sequence of Extra
        Further columns that take more than a forward pass; see :mod:`featood.extractors.extras`.
    dtype : str
        Stored type of the features, ``float32`` or ``float16``; logits are always float32.
    precision : str
        Arithmetic of the backbone: ``float32``, ``bfloat16`` or ``float16``.
    batch_size : int
        Images in a forward pass.
    block_rows : int
        Rows committed at a time.
    store : str
        ``zarr`` or ``hdf5``.
    device : str
        ``auto`` takes the GPU where there is one.
    workers : int, optional
        Processes that decode images; by default none for packed sets, else one a core.
    strict : bool
        Stop at the first image that cannot be read, rather than count and name it.
    overwrite : bool
        Replace a set that was made in another way.
    """

    taps: Sequence[str] = ()
    pools: Sequence[str] | None = None
    maps: bool = False
    extras: Sequence[Extra] = ()
    dtype: str = "float32"
    precision: str = "float32"
    batch_size: int = 128
    block_rows: int = 4096
    store: str = "zarr"
    device: str = "auto"
    workers: int | None = None
    strict: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.dtype not in ("float32", "float16"):
            raise UsageError(f"dtype is float32 or float16, not {self.dtype}")
        if self.precision not in PRECISIONS:
            raise UsageError(f"precision is one of {', '.join(PRECISIONS)}, not {self.precision}")
        if self.batch_size < 1 or self.block_rows < 1:
            raise UsageError("the batch size and the rows of a block must be positive")


@dataclasses.dataclass
class Extraction:
    """What an extraction did."""

    features: FeatureSet
    resumed_rows: int
    failed: list[str]
    """Inputs that could not be read, with the reason."""


def extract(
    backbone: Backbone,
    images: ImageSet,
    transform: Transform,
    cache: FeatureCache,
    options: ExtractOptions = ExtractOptions(),
    run: dict[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Extraction:
    """Extract one split into the cache, or finish an interrupted extraction of it.

    Parameters
    ----------
    backbone : Backbone
        The network.
    images : ImageSet
        The inputs.
    transform : Transform
        From decoded image to network input: that of the in-distribution set, for all sets.
    cache : FeatureCache
        Where to.
    options : ExtractOptions
        How.
    run : dict, optional
        Further facts for the manifest that do not change the values.
    progress : callable, optional
        Called as ``progress(rows done, rows in all)``.

    Raises
    ------
    DataError
        When no image, or with `strict` any one image, cannot be read; or features are not finite.
    Mismatch
        When the cache holds this set made in another way.
    """
    device = pick_device(options.device)
    module = backbone.module.to(device)
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    example = torch.zeros(2, transform.channels, transform.height, transform.width, device=device)
    example += torch.linspace(-1, 1, example[0].numel(), device=device).view_as(example[0])
    example = example.contiguous(memory_format=torch.channels_last)
    plan = plan_taps(module, example, options.taps, options.pools, options.maps)
    if options.extras and not plan.has_logits:
        raise UsageError(
            f"the column {options.extras[0].column} needs logits, which {backbone.name} does not give"
        )
    compute = _computation(plan, module, transform, options)
    widths = {name: values.shape[1] for name, values in compute(example, 0).items()}
    manifest = make_manifest(backbone, images, transform, plan, widths, options, run)
    key = f"{backbone.slug}/{images.name}/{images.split}"
    with cache.writer(key, manifest, plan.classifier(module), options.overwrite) as writer:
        pending = writer.pending()
        done = resumed = len(images) - sum(_length(writer.span(block)) for block in pending)
        batches = [
            range(start, min(start + options.batch_size, writer.span(block).stop))
            for block in pending
            for start in range(writer.span(block).start, writer.span(block).stop, options.batch_size)
        ]
        if progress is not None:
            progress(done, len(images))
        loader = _loader(images, transform, batches, options)
        failed: list[tuple[int, str]] = []
        rows: list[dict[str, np.ndarray]] = []
        for batch, (pixels, bad) in zip(batches, loader, strict=True):
            if bad and options.strict:
                raise DataError(f"{bad[0][1]} (leave --strict out to skip such images)")
            failed += [(batch[position], reason) for position, reason in bad]
            pixels = pixels.to(device, memory_format=torch.channels_last, non_blocking=True)
            rows.append({name: values.cpu().numpy() for name, values in compute(pixels, batch[0]).items()})
            done += len(batch)
            if progress is not None:
                progress(done, len(images))
            block = batch[0] // options.block_rows
            if batch[-1] + 1 == writer.span(block).stop:
                lost = [row for row, _ in failed if row // options.block_rows == block]
                writer.write(block, _columns(rows, images, writer.span(block), manifest), lost)
                rows = []
        if len(failed) == len(images):
            raise DataError(
                f"none of the {len(images)} images of {images.name} could be read: {failed[0][1]}"
            )
        return Extraction(writer.finish(key), resumed, [reason for _, reason in failed])


def pick_device(name: str) -> torch.device:
    """Return the device of a name; ``auto`` is the GPU where there is one.

    Raises
    ------
    UsageError
        When the device does not exist.
    """
    if name == "auto":
        mps = torch.backends.mps.is_available()
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if mps else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device '{name}' cannot be used: {str(error).splitlines()[0]}") from None
    return device


def make_manifest(
    backbone: Backbone,
    images: ImageSet,
    transform: Transform,
    plan: TapPlan,
    widths: dict[str, int],
    options: ExtractOptions,
    run: dict[str, Any] | None,
) -> Manifest:
    """Describe the set that is going to be extracted."""
    recipe: dict[str, Any] = {
        "backbone": backbone.resolved,
        "weights_sha256": backbone.sha256,
        "columns": plan.columns_json(),
        "main": plan.main,
        "transform": transform.as_json(),
        "dtype": options.dtype,
        "precision": options.precision,
    }
    # only what is asked for enters, so that plain extractions keep their fingerprints
    if plan.map_shape:
        recipe["map_shape"] = list(plan.map_shape)
    if options.extras:
        recipe["extras"] = extras_to_json(options.extras)
    if any(extra.by_batch for extra in options.extras):
        recipe["batch_size"] = options.batch_size
    columns = {name: ColumnSpec((width,), options.dtype) for name, width in widths.items()}
    if "logits" in columns:
        columns["logits"] = ColumnSpec(columns["logits"].shape, "float32")
    if images.labels is not None:
        columns["labels"] = ColumnSpec((), "int64")
    columns["ids"] = ColumnSpec(
        (max((len(name.encode("utf-8", "surrogateescape")) for name in images.ids), default=1),), "uint8"
    )
    taps = {"taps": list(options.taps), "pools": options.pools and list(options.pools)}
    facts = {
        "name": backbone.name,
        "weights": backbone.weights,
        **taps,
        "processor": platform.machine(),
        "batch_size": options.batch_size,
    }
    return Manifest(
        recipe=recipe,
        data={"dataset": images.name, "split": images.split, "inputs_sha256": images.digest()},
        columns=columns,
        rows=len(images),
        store=options.store,
        main=plan.main,
        block_rows=options.block_rows,
        versions=library_versions(),
        run={
            **facts,
            "device": str(pick_device(options.device)),
            "threads": torch.get_num_threads(),
            **(run or {}),
        },
    )


class _Images(Dataset):
    """Batches of transformed images; those that cannot be read are zero, and named."""

    def __init__(self, images: ImageSet, transform: Transform, batches: Sequence[range]) -> None:
        self.images, self.transform, self.batches = images, transform, batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> tuple[Tensor, list[tuple[int, str]]]:
        transform, failed = self.transform, []
        pixels = []
        for position, row in enumerate(self.batches[index]):
            try:
                pixels.append(transform.pixels(self.images.read(row)))
            except DataError as error:
                failed.append((position, str(error)))
                pixels.append(np.zeros((transform.height, transform.width, transform.channels), np.uint8))
        return transform.normalise(np.stack(pixels)), failed


def _loader(
    images: ImageSet, transform: Transform, batches: Sequence[range], options: ExtractOptions
) -> DataLoader:
    workers = options.workers
    if workers is None:
        workers = 0 if images.array is not None else min(8, os.cpu_count() or 1)
    return DataLoader(
        _Images(images, transform, batches),
        batch_size=None,
        num_workers=min(workers, len(batches)),
        generator=torch.Generator(),
        pin_memory=torch.cuda.is_available(),
        prefetch_factor=4 if min(workers, len(batches)) else None,
    )


def _columns(
    rows: list[dict[str, np.ndarray]], images: ImageSet, span: slice, manifest: Manifest
) -> dict[str, np.ndarray]:
    columns = {name: np.concatenate([part[name] for part in rows]) for name in rows[0]}
    if images.labels is not None:
        columns["labels"] = images.labels[span]
    columns["ids"] = encode_ids(list(images.ids[span]), manifest.columns["ids"].shape[0])
    return columns


def _computation(
    plan: TapPlan, module: torch.nn.Module, transform: Transform, options: ExtractOptions
) -> Callable[[Tensor, int], dict[str, Tensor]]:
    """Return the function from a batch of images, and the number of its first row, to all columns."""
    precision = PRECISIONS[options.precision]

    def arithmetic(device: torch.device) -> torch.autocast:
        # one context for each pass: what autocast keeps of inference mode is of no use to a gradient
        return torch.autocast(device.type, precision or torch.bfloat16, enabled=precision is not None)

    def compute(images: Tensor, row: int) -> dict[str, Tensor]:
        with plan.recording(module) as forward, torch.inference_mode(), arithmetic(images.device):
            columns = forward(images)
        for extra in options.extras:
            with arithmetic(images.device):
                columns[extra.column] = extra(module, images, transform, row)
        return columns

    return compute


def _length(rows: slice) -> int:
    return rows.stop - rows.start
