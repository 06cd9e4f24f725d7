"""Extracting a dataset's splits, and extracting another set in the way an earlier one was."""

from __future__ import annotations

__all__ = ["extract_dataset", "extract_like"]

import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import Any

from featood.cache import FeatureCache, FeatureSet, slug
from featood.data import available_splits, default_data_dir, download, open_dataset
from featood.data.table_sets import NOISE
from featood.engine.joining import join_sets
from featood.engine.selection import OOD
from featood.engine.tables import TABLE, import_noise
from featood.errors import DataError, Mismatch
from featood.extractors.backbones import Backbone
from featood.extractors.extract import Extraction, ExtractOptions, extract
from featood.extractors.recipe import choose_transform, rebuild

Progress = Callable[[str, int, int], None]


def extract_dataset(
    cache: FeatureCache,
    backbone: Backbone,
    dataset: str,
    splits: Sequence[str] = (),
    data_dir: str | None = None,
    options: ExtractOptions = ExtractOptions(),  # noqa: B008  (frozen)
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    image_size: int | None = None,
    fetch: bool = False,
    run: dict[str, Any] | None = None,
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> list[Extraction]:
    """Extract splits of an in-distribution dataset; all that are there, where none is named.

    Parameters
    ----------
    cache, backbone, options
        See :func:`featood.extractors.extract.extract`.
    dataset : str
        A name or a path; see :func:`featood.data.open_dataset`.
    splits : sequence of str
        Their names.
    data_dir : str, optional
        Where the images are.
    mean, std, image_size
        See :func:`featood.extractors.recipe.choose_transform`.
    fetch : bool
        Download the dataset where it is not there and torchvision can.
    run : dict, optional
        Further facts for the manifest.
    progress : callable, optional
        Called as ``progress(what, rows done, rows in all)``.
    say : callable
        Takes one line about each choice made.

    Raises
    ------
    DataError
        When the images are not there.
    """
    there = available_splits(dataset, data_dir)
    if not there and fetch:
        from featood.extractors.vision import torchvision

        there = download(dataset, data_dir, torchvision)
    sets = [open_dataset(dataset, split, data_dir) for split in splits or there or [None]]  # type: ignore[list-item]
    transform, origin = choose_transform(backbone, sets[0], mean, std, image_size)
    say(
        f"transform from {origin}: {transform.height} x {transform.width} x {transform.channels}, "
        f"mean {_brief(transform.mean)}, std {_brief(transform.std)}"
    )
    facts = {"data_dir": os.path.abspath(data_dir or default_data_dir()), "dataset": dataset, **(run or {})}
    done = []
    for images in sets:
        report = _named(progress, f"{backbone.slug}/{images.name}/{images.split}")
        done.append(extract(backbone, images, transform, cache, options, facts, report))
    return done


def extract_like(
    cache: FeatureCache,
    reference: FeatureSet,
    dataset: str,
    data_dir: str | None = None,
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> FeatureSet:
    """Return an out-of-distribution set's features, from the cache, or extracted as `reference` was.

    For sets that were joined from those of several backbones, each of these extracts it, and then they are joined.

    Raises
    ------
    DataError
        When it is neither in the cache nor are its images there.
    Mismatch
        When the cache holds it made in another way, or the weights have changed since.
    """
    folder, reference_key = reference.name.split("/")[0], reference.name
    cached = [
        entry
        for entry in cache.entries()
        if entry.backbone == folder and entry.dataset == slug(dataset) and entry.key != reference_key
    ]
    for split in ("test", "val", *(entry.split for entry in cached)):
        entry = next((entry for entry in cached if entry.split == split and entry.complete), None)
        if entry is not None and (split != "train" or len(cached) == 1):
            if entry.manifest.backbone_fingerprint != reference.fingerprint:
                raise Mismatch(
                    f"{entry.key} was extracted in another way than {reference_key}; "
                    f"remove {entry.folder} and score again"
                )
            return cache[entry.key]
    run = reference.origin["run"]
    if "members" in run:
        rest = reference_key.removeprefix(folder)
        members = [
            extract_like(cache, cache[member + rest], dataset, data_dir, progress, say)
            for member in run["members"]
        ]
        return join_sets(cache, folder, members, role=OOD)
    where = data_dir or run.get("data_dir")
    if TABLE in reference.origin["recipe"] and dataset.partition(":")[0] == NOISE:
        say(f"{dataset} is not in the cache: making it as wide as {reference_key}")
        return import_noise(cache, reference, dataset)
    if "transform" not in reference.origin["recipe"]:
        raise DataError(f"{folder}/{dataset} is not in the cache; {_how_it_got_there(reference)}")
    images = open_dataset(dataset, None, where)
    say(f"{dataset} is not in the cache: extracting it as {reference_key} was")
    backbone, transform, options = rebuild(reference.origin)
    kept = {key: run[key] for key in ("weights_file", "seed") if key in run}
    facts = {
        **kept,
        "role": OOD,
        "data_dir": os.path.abspath(where or default_data_dir()),
        "dataset": dataset,
    }
    report = _named(progress, f"{backbone.slug}/{images.name}/{images.split}")
    # the folder may bear a name the user chose
    backbone = dataclasses.replace(backbone, folder=folder)
    return extract(backbone, images, transform, cache, options, facts, report).features


def _how_it_got_there(reference: FeatureSet) -> str:
    """Say how sets of a backbone that cannot be built here are added."""
    folder = reference.name.split("/")[0]
    if str(reference.origin["recipe"]["backbone"]).startswith("module:"):
        return f"extract it in Python: featood.extract(module, loader, cache=..., name='{folder}/NAME/test', ood=True)"
    return f"import it with featood import --backbone {folder}"


def _named(progress: Progress | None, what: str) -> Callable[[int, int], None] | None:
    return None if progress is None else lambda done, total: progress(what, done, total)


def _brief(values: Sequence[float]) -> str:
    return ",".join(f"{value:.4g}" for value in values)
