"""Extraction of features with any module in memory and any loader."""

from __future__ import annotations

__all__ = ["extract"]

import hashlib
import sys
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from featood.cache import FeatureCache, FeatureSet, Manifest, library_versions, open_cache
from featood.cache.reader import encode_ids
from featood.errors import DataError, UsageError
from featood.extractors.batches import Batch, as_batches, loader_notes, preprocessing
from featood.extractors.code import code_recipe
from featood.extractors.forward import ExtractOptions, Forward, column_specs, placed, ready
from featood.extractors.weights import weights_sha256
from featood.numerics.devices import pick_device
from featood.readers import class_labels
from featood.reporter import SILENT, TerminalReporter


def extract(
    module: nn.Module,
    loader: Any,
    *,
    cache: FeatureCache | str | Path | None = None,
    name: str = "",
    classes: Sequence[str] = (),
    ood: bool = False,
    device: str = "",
    quiet: bool = False,
    **options: Any,
) -> FeatureSet:
    """Run a module over a loader once, and return its features, logits and labels.

    Parameters
    ----------
    module : Module
        Any network; it is in evaluation mode during the extraction, and restored afterwards.
    loader
        A ``DataLoader``, any iterable of batches, a ``Dataset``, or a tensor ``[N, ...]``. A batch is a tensor, a pair
        of inputs and labels (optionally followed by names), or a mapping with keys such as ``image`` or
        ``pixel_values`` and ``label``. Inputs are passed to the network unchanged.
    cache : FeatureCache or path, optional
        Also store the set in this cache.
    name : str
        Name ``backbone/dataset/split`` of the stored set. Use the same backbone for all sets of a network, so that
        heads fitted on one can score the others.
    classes : sequence of str
        Names of the classes in the order of their numbers; by default those of the loader's data set. Text labels are
        numbered in this order, otherwise alphabetically.
    ood : bool
        Whether this is an out-of-distribution set, which ``fit`` and ``score`` never select by default.
    device : str
        Device to compute on; by default that of the module.
    quiet : bool
        Print neither progress nor notes.
    **options
        Options of :class:`~featood.extractors.forward.ExtractOptions`: ``taps``, ``pools``, ``maps``, ``outputs``,
        ``dtype``, ``precision``, ``store``, ``overwrite``; ``batch_size`` and ``workers`` for data without batches.

    Returns
    -------
    FeatureSet
        The set. Its fingerprint covers the weights, the structure, the source of the module's classes, the taps, and
        the ``repr`` of the loader's transform, as far as these are available; what is unavailable is reported.

    Raises
    ------
    UsageError
        If an option is invalid, or a cache is given without a name.
    DataError
        If the loader is empty or its batches have another form, or features to store are not finite.
    Mismatch
        If the cache contains a different set of this name.

    Examples
    --------
    >>> import torch, featood
    >>> net = torch.nn.Sequential(
    ...     torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
    ...     torch.nn.Linear(8, 2),
    ... )
    >>> train = featood.extract(net, torch.rand(64, 3, 16, 16), quiet=True)
    >>> featood.create_head("knn", k=5).fit(train).score(train).shape
    (64,)
    """
    if cache is not None and len(list(filter(None, name.split("/")))) != 3:
        raise UsageError(
            "a set in a cache needs a name backbone/dataset/split, such as name='mynet/photos/test'"
        )
    first = next(iter(module.parameters()), torch.empty(0))
    how = ExtractOptions(**{"device": device or str(first.device), **options})
    if how.append:
        raise UsageError(
            "append is for sets of images by name; extract the whole loader, with overwrite=True"
        )
    batches = as_batches(loader, how.batch_size, how.workers or 0)
    head = next(batches, None)
    if head is None or not len(head.inputs):
        raise DataError("the loader is empty")
    place = pick_device(how.device)
    with ready(module, place):
        forward = Forward(module, placed(_example(head.inputs), place), how)
        rows = _Rows()
        with SILENT if quiet else TerminalReporter() as reporter:
            total = _length(loader)
            for batch in chain([head], batches):
                rows.add(batch, forward(placed(batch.inputs, place), rows.count))
                reporter.progress("extracting", rows.count, total or rows.count)
        classifier = forward.plan.classifier(module)
        recipe, unknown = _recipe(module, forward, loader)
    labels, names = None, tuple(classes) or _known_classes(loader)
    if rows.labels:
        labels, names = class_labels(np.concatenate(rows.labels), names)
    name = name or f"{type(module).__name__}/data/test"
    manifest = _manifest(name, rows, labels, recipe, forward, names, ood)
    if not quiet:
        for note in filter(None, [forward.plan.note, *loader_notes(loader), *unknown]):
            print(f"featood.extract: {note}", file=sys.stderr)
    columns = {key: np.concatenate(parts) for key, parts in rows.columns.items()}
    columns = {key: values.astype(manifest.columns[key].dtype, copy=False) for key, values in columns.items()}
    if cache is not None:
        return _store(cache, name, manifest, columns, labels, rows.names, classifier, how.overwrite)
    return FeatureSet(
        {key: values for key, values in columns.items() if key != "logits"},
        logits=columns.get("logits"),
        labels=labels,
        ids=np.array(rows.names, dtype=object),
        classifier=classifier,
        main=forward.plan.main,
        fingerprint=manifest.backbone_fingerprint,
        name=name,
        classes=names,
        origin=manifest,
    )


class _Rows:
    """The rows so far: columns, labels, names, and a digest of the inputs."""

    def __init__(self) -> None:
        self.columns: dict[str, list[np.ndarray]] = {}
        self.labels: list[np.ndarray] = []
        self.names: list[str] = []
        self.sha = hashlib.sha256(b"featood batches 1\0")

    @property
    def count(self) -> int:
        return len(self.names)

    def add(self, batch: Batch, columns: dict[str, Tensor]) -> None:
        if (batch.labels is None) != (not self.labels) and self.count:
            raise DataError("only some batches of the loader have labels")
        start = self.count
        for key, values in columns.items():
            self.columns.setdefault(key, []).append(values.cpu().numpy())
        if batch.labels is not None:
            self.labels.append(batch.labels)
        self.names += batch.names or map(str, range(start, start + len(batch.inputs)))
        self.sha.update(batch.inputs.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)


def _example(inputs: Tensor) -> Tensor:
    """Return at least two inputs, with which the network is traced."""
    return inputs[:2] if len(inputs) > 1 else torch.cat([inputs, inputs.flip(-1)])


def _length(loader: Any) -> int | None:
    try:
        return len(getattr(loader, "dataset", loader))
    except TypeError:  # an iterable of unknown length
        return None


def _known_classes(loader: Any) -> tuple[str, ...]:
    found = getattr(getattr(loader, "dataset", loader), "classes", None)
    if isinstance(found, list | tuple) and all(isinstance(name, str) for name in found):
        return tuple(found)
    return ()


def _recipe(module: nn.Module, forward: Forward, loader: Any) -> tuple[dict[str, Any], list[str]]:
    """Return what determines the features, and one line about each part that is unavailable."""
    code, unknown = code_recipe(module)
    how = preprocessing(loader)
    if not how:
        unknown.append(
            "the preprocessing of the inputs is unknown; use the same for all sets of this network"
        )
    elif "lambda" in how or "<function" in how:
        unknown.append(
            "the loader's transform calls functions whose code is unavailable, so changes cannot be detected"
        )
    recipe = {
        "backbone": f"module:{type(module).__module__}.{type(module).__qualname__}",
        "weights_sha256": weights_sha256(module),
        **code,
        "preprocessing": how,
        **forward.recipe,
    }
    return recipe, unknown


def _manifest(
    name: str,
    rows: _Rows,
    labels: np.ndarray | None,
    recipe: dict[str, Any],
    forward: Forward,
    classes: tuple[str, ...],
    ood: bool,
) -> Manifest:
    backbone, dataset, split = name.split("/")
    options, inputs = forward.options, rows.sha.copy()
    inputs.update("\0".join(rows.names).encode("utf-8", "surrogateescape"))
    inputs.update(b"none" if labels is None else labels.astype("<i8").tobytes())
    return Manifest(
        recipe=recipe,
        data={"dataset": dataset, "split": split, "inputs_sha256": inputs.hexdigest()},
        columns=column_specs(forward.columns, labels is not None, rows.names),
        rows=rows.count,
        store=options.store,
        main=forward.plan.main,
        block_rows=options.block_rows,
        versions=library_versions(),
        run={
            "name": backbone,
            "weights": "its own",
            "device": options.device,
            "threads": torch.get_num_threads(),
            "classes": list(classes),
            **({"role": "ood"} if ood else {}),
        },
    )


def _store(
    cache: FeatureCache | str | Path,
    name: str,
    manifest: Manifest,
    columns: dict[str, np.ndarray],
    labels: np.ndarray | None,
    names: list[str],
    classifier: Any,
    overwrite: bool,
) -> FeatureSet:
    cache = cache if isinstance(cache, FeatureCache) else open_cache(cache)
    columns = {**columns, "ids": encode_ids(names, manifest.columns["ids"].shape[0])}
    if labels is not None:
        columns["labels"] = labels
    with cache.writer(name, manifest, classifier, overwrite) as writer:
        for block in writer.pending():
            rows = writer.span(block)
            writer.write(block, {key: values[rows] for key, values in columns.items()})
        return writer.finish(name)
