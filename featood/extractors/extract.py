"""Extraction of the features of images, texts or recordings with a backbone into the cache."""

from __future__ import annotations

__all__ = ["ExtractOptions", "Extraction", "extract"]

import dataclasses
import functools
import itertools
import os
import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from featood.cache import FeatureCache, FeatureSet, Manifest, SetWriter, library_versions
from featood.cache.additions import TAKEN_OVER
from featood.cache.read_ahead import read_ahead
from featood.cache.reader import encode_ids
from featood.data import InputSet
from featood.engines import LOCAL, Engine
from featood.errors import DataError
from featood.extractors.appending import RowsBefore, rows_before
from featood.extractors.backbones import Backbone
from featood.extractors.code import code_recipe
from featood.extractors.extras import extras_paths
from featood.extractors.forward import ExtractOptions, Forward, column_specs, placed, ready
from featood.extractors.inputs import InputTransform
from featood.extractors.readable import read_problem
from featood.numerics.devices import pick_device


@dataclasses.dataclass
class Extraction:
    """Result of an extraction."""

    features: FeatureSet
    resumed_rows: int
    failed: list[str]
    """Reason for each input that could not be read."""
    note: str
    """A note about unusual outputs of the network; usually empty."""
    taken_over: int = 0
    """Rows that were not computed, because a set of fewer images has them."""


def extract(
    backbone: Backbone,
    images: InputSet,
    transform: InputTransform,
    cache: FeatureCache,
    options: ExtractOptions = ExtractOptions(),  # noqa: B008  (frozen)
    run: dict[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
    engine: Engine = LOCAL,
) -> Extraction:
    """Extract one split into the cache, or finish an interrupted extraction of it.

    Parameters
    ----------
    backbone : Backbone
        The network.
    images : InputSet
        The inputs.
    transform : InputTransform
        Transform from decoded inputs to those of the network; that of the in-distribution set for all sets.
    cache : FeatureCache
        The cache to write to.
    options : ExtractOptions
        Options of the extraction.
    run : dict, optional
        Further entries of the manifest that do not affect the values.
    progress : callable, optional
        Called as ``progress(rows done, total rows)``.
    engine : Engine
        Where the blocks are computed and written; see :mod:`featood.engines`.

    Raises
    ------
    DataError
        If no image can be read, or with `strict` if any image cannot; or if features are not finite.
    Mismatch
        If the cache contains this set, extracted with other settings; or, to append, if its images have changed.
    """
    device = pick_device(options.device)
    with ready(backbone.module, device) as module:
        forward = Forward(module, placed(transform.example(), device), options, transform)
        manifest = make_manifest(backbone, images, transform, forward, run)
        return _run(backbone, images, forward, cache, manifest, progress, engine)


def _run(
    backbone: Backbone,
    images: InputSet,
    forward: Forward,
    cache: FeatureCache,
    manifest: Manifest,
    progress: Callable[[int, int], None] | None,
    engine: Engine,
) -> Extraction:
    """Compute and write the missing blocks."""
    classifier = forward.plan.classifier(forward.module)
    key = f"{backbone.slug}/{images.name}/{images.split}"
    before = rows_before(cache, key, manifest, images, forward.options) if forward.options.append else None
    earlier = None
    if before is not None:
        earlier = before.manifest
        manifest = dataclasses.replace(manifest, run={**manifest.run, TAKEN_OVER: before.facts})
    with cache.writer(key, manifest, classifier, forward.options.overwrite, earlier) as writer:
        pending = writer.pending()
        done = resumed = len(images) - sum(_length(writer.span(block)) for block in pending)

        def advance(rows: int) -> None:
            nonlocal done
            done += rows
            if progress is not None:
                progress(done, len(images))

        advance(0)
        failed: list[tuple[int, str]] = []
        for rows, lost in engine.map(_Blocks(images, forward, writer, advance, before), pending):
            advance(rows)
            failed += lost
        if len(failed) == len(images):
            raise DataError(
                f"none of the {len(images)} {images.kind} of {images.name} could be read: {failed[0][1]}"
            )
        return Extraction(
            writer.finish(key),
            resumed,
            [reason for _, reason in failed],
            forward.plan.note,
            0 if before is None else before.count,
        )


@dataclasses.dataclass
class _Blocks:
    """The work of an extraction: compute and write blocks.

    Yields for each block the number of rows that `advance` was not called with, and its unreadable images.
    """

    images: InputSet
    forward: Forward
    writer: SetWriter
    advance: Callable[[int], None] | None
    """Called with the number of rows of each batch; it stays in the process of the job."""
    before: RowsBefore | None
    """Rows that need not be computed."""

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "advance": None}

    def __call__(self, blocks: Iterable[int]) -> Iterator[tuple[int, list[tuple[int, str]]]]:
        # a thread writes each block while the next is computed
        return read_ahead(self._writes(blocks))

    def _writes(self, blocks: Iterable[int]) -> Iterator[Callable[[], tuple[int, list[tuple[int, str]]]]]:
        """Compute the blocks, and yield functions that write them and return the result of the work."""
        options, device = self.forward.options, pick_device(self.forward.options.device)
        self.forward.module.to(device)  # a copy comes from a process that may have another
        assert self.forward.transform is not None
        spans = [self.writer.span(block) for block in blocks]
        batches = [
            range(start, min(start + options.batch_size, span.stop))
            for span in spans
            for start in range(span.start, span.stop, options.batch_size)
        ]
        columns: dict[str, Tensor] = {}
        failed: list[tuple[int, str]] = []
        taken = [self.before is not None and self.before.has(batch) for batch in batches]
        missing = [batch for batch, there in zip(batches, taken, strict=True) if not there]
        inputs = _inputs(self.images, self.forward.transform, missing, options, device)
        for batch, there in zip(batches, taken, strict=True):
            block = batch[0] // options.block_rows
            span = self.writer.span(block)
            if there and self.before is not None:
                found = self.before.read(batch)
            else:
                rows, bad = next(inputs)
                if bad and options.strict:
                    raise DataError(f"{bad[0][1]} (omit --strict to skip such {self.images.kind})")
                failed += [(batch[position], reason) for position, reason in bad]
                found = self.forward(placed(rows, device), batch[0])
            for name, values in found.items():
                if name not in columns:
                    shape = (_length(span), *values.shape[1:])
                    columns[name] = torch.empty(shape, dtype=values.dtype, pin_memory=device.type == "cuda")
                # the processor prepares the next batch while a GPU computes and copies
                part = columns[name][batch[0] - span.start : batch[-1] + 1 - span.start]
                part.copy_(values, non_blocking=device.type == "cuda")
            if self.advance is not None:
                self.advance(len(batch))
            if batch[-1] + 1 == span.stop:
                if device.type == "cuda":
                    torch.cuda.synchronize(device)
                yield functools.partial(self._write, block, columns, failed)
                columns, failed = {}, []

    def _write(
        self, block: int, columns: dict[str, Tensor], failed: list[tuple[int, str]]
    ) -> tuple[int, list[tuple[int, str]]]:
        span = self.writer.span(block)
        values = {name: column.numpy() for name, column in columns.items()}
        if self.images.labels is not None:
            values["labels"] = self.images.labels[span]
        values["ids"] = encode_ids(list(self.images.ids[span]), self.writer.manifest.columns["ids"].shape[0])
        self.writer.write(block, values, [row for row, _ in failed])
        return _length(span) if self.advance is None else 0, failed


def make_manifest(
    backbone: Backbone,
    images: InputSet,
    transform: InputTransform,
    forward: Forward,
    run: dict[str, Any] | None,
) -> Manifest:
    """Make the manifest of the set to extract."""
    options = forward.options
    recipe: dict[str, Any] = {
        "backbone": backbone.resolved,
        "weights_sha256": backbone.sha256,
        "transform": transform.as_json(),
        **({"backbone_options": dict(backbone.options)} if backbone.options else {}),
        **({"positions_resampled_from": list(backbone.resampled)} if backbone.resampled else {}),
        **(code_recipe(backbone.module)[0] if backbone.resolved.startswith("python:") else {}),
        **forward.recipe,
    }
    facts = {
        "name": backbone.name,
        "weights": backbone.weights,
        "taps": list(options.taps),
        "pools": options.pools and list(options.pools),
        "outputs": options.outputs,
        "processor": platform.machine(),
        "batch_size": options.batch_size,
        "classes": list(images.classes),
        **images.facts(),
    }
    if backbone.resampled_sha256:
        facts["resampled_sha256"] = backbone.resampled_sha256
    if paths := extras_paths(options.extras):
        facts["paths"] = paths
    return Manifest(
        recipe=recipe,
        data={"dataset": images.name, "split": images.split, "inputs_sha256": images.digest()},
        columns=column_specs(forward.columns, images.labels is not None, images.ids),
        rows=len(images),
        store=options.store,
        main=forward.plan.main,
        block_rows=options.block_rows,
        versions=library_versions(),
        run={
            **facts,
            "device": str(pick_device(options.device)),
            "threads": torch.get_num_threads(),
            **(run or {}),
        },
    )


class _Batches(Dataset[Any]):
    """Batches of converted rows; unreadable ones are returned with the reason.

    System errors (a failing disk) are returned in place of a batch, because raising them in a worker would lose their
    type.
    """

    def __init__(self, images: InputSet, transform: InputTransform, batches: Sequence[range]) -> None:
        self.images, self.transform, self.batches = images, transform, batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> tuple[Tensor | OSError, list[tuple[int, str]]]:
        rows: list[np.ndarray | None] = []
        failed = []
        for position, row in enumerate(self.batches[index]):
            try:
                rows.append(self.transform.read(self.images, row))
            except DataError as error:
                rows.append(None)
                failed.append((position, read_problem(self.images, row, error)))
            except OSError as error:
                return error, []
        return torch.from_numpy(self.transform.stack(rows)), failed


def _inputs(
    images: InputSet,
    transform: InputTransform,
    batches: Sequence[range],
    options: ExtractOptions,
    device: torch.device,
) -> Iterator[tuple[Tensor, list[tuple[int, str]]]]:
    """Yield the inputs of each batch and its unreadable images; a thread prepares the next batch."""
    workers = options.workers
    if workers is None:
        workers = 0 if images.in_memory else min(8, os.cpu_count() or 1)
    loader = iter(
        DataLoader(
            _Batches(images, transform, batches),
            batch_size=None,
            num_workers=min(workers, len(batches)),
            generator=torch.Generator(),
            prefetch_factor=4 if min(workers, len(batches)) else None,
        )
    )

    def prepared() -> tuple[Tensor, list[tuple[int, str]]]:
        rows, failed = next(loader)
        if isinstance(rows, OSError):
            raise rows
        inputs = transform.normalise(rows.numpy())
        return inputs.pin_memory() if device.type == "cuda" else inputs, failed

    return read_ahead(itertools.repeat(prepared, len(batches)))


def _length(rows: slice) -> int:
    return rows.stop - rows.start
