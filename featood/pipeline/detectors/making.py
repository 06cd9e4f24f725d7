"""Making a detector from a fitted head and a cache."""

from __future__ import annotations

__all__ = ["GOLDEN_IMAGES", "make_detector", "write_detector"]

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from featood.cache.feature_cache import FeatureCache, slug
from featood.cache.feature_set import FeatureSet
from featood.cache.manifest import library_versions
from featood.data import Decoding, open_images
from featood.errors import DataError, FeatoodError, UsageError
from featood.heads.base.head import Head
from featood.pipeline.detectors.detector import Detector
from featood.pipeline.detectors.folder import stored_weights
from featood.pipeline.detectors.golden import record_golden
from featood.pipeline.detectors.neighbours import TRAINING_ROWS, TrainingRows, choose_training_rows
from featood.pipeline.detectors.network import ImageNetwork
from featood.pipeline.detectors.reference import choose_reference
from featood.pipeline.fitted_heads import chosen_head
from featood.pipeline.selection import select
from featood.reporter import SILENT, Reporter

GOLDEN_IMAGES = 4


def make_detector(
    head: Head,
    features: FeatureSet,
    code: Sequence[Any] = (),
    *,
    training: TrainingRows | None = None,
    data_dir: str | None = None,
    reporter: Reporter = SILENT,
) -> Detector:
    """Return a detector of a head, with the network of the set that it was calibrated on.

    The first images of the set are its golden inputs.

    Parameters
    ----------
    head : Head
        A fitted head, calibrated on the set.
    features : FeatureSet
        The set that it was calibrated on, extracted from images.
    code : sequence of str or Module
        Code that may be run; see :func:`featood.extractors.recipe.rebuild`.
    training : TrainingRows, optional
        Rows to show as neighbours; see :func:`~featood.pipeline.detectors.neighbours.choose_training_rows`.
    data_dir : str, optional
        Folder of the images; by default that of the extraction.
    reporter : Reporter
        Receives a line about what is left out.

    Raises
    ------
    UsageError
        If the features were imported, so there is no network.
    Mismatch
        If the network no longer has the same weights.
    """
    if features.origin is None or not from_images(features):
        raise UsageError(
            f"{features.name} was not extracted from images by name, so a detector would have no network"
        )
    if (calibration := head.calibration) is None:
        raise UsageError(f"{head.name} has no threshold; calibrate it first (head.calibrate)")
    network = ImageNetwork(features.origin, code)
    images = _images(features, network.decoding, data_dir)
    golden = None
    if not images:
        reporter.line(
            "the images of the set are not available, so the detector has no golden inputs to test itself"
        )
    else:
        golden = record_golden(network, head, images, float(calibration.scores.std()))
        stored = np.asarray(head.score(features.rows(slice(0, 1))), np.float64)
        if not np.allclose(golden.scores[:1], stored, rtol=1e-2, atol=1e-2 * golden.scale):
            raise DataError(
                f"the network scores the first image of {features.name} {golden.scores[0]:.6g}, but its cached "
                f"features {stored[0]:.6g}; extract the set again"
            )
    reference = choose_reference(calibration, features) if features.features else None
    return Detector(head, network, golden, library_versions(), reference, training)


def write_detector(
    cache: FeatureCache,
    head: str,
    tpr: float,
    out: str | Path | None = None,
    *,
    split: str = "",
    backbone: str = "",
    dataset: str = "",
    data_dir: str | None = None,
    force: bool = False,
    training_rows: int = TRAINING_ROWS,
    reporter: Reporter = SILENT,
    **how: Any,
) -> tuple[Detector | Head, Path]:
    """Calibrate a fitted head of a cache, and write its detector.

    If its features were imported there is no network to store, and the calibrated head is written instead.

    Parameters
    ----------
    cache : FeatureCache
        The cache.
    head : str
        Name of a fitted head.
    tpr : float
        See :meth:`featood.heads.Head.calibrate`, also for `force` and further arguments.
    out : path, optional
        Folder to write; by default the name of the head and ``-detector``.
    split : str
        Split to calibrate on; by default ``val``, or else ``test``.
    backbone, dataset, data_dir
        See :func:`featood.pipeline.selection.select`.
    training_rows : int
        Largest number of training rows to keep, which are shown as neighbours.
    reporter : Reporter
        Receives a line about each choice.

    Returns
    -------
    detector : Detector or Head
    folder : Path
    """
    selection = select(cache, backbone, dataset, data_dir)
    chosen = split or ("val" if "val" in selection.entries else selection.test_split(""))
    features = selection.open(selection.train_split(chosen))
    label, fitted = chosen_head(selection, head, reporter)
    place = Path(out or f"{slug(label)}-detector")
    if place.exists():
        raise UsageError(f"{place} exists; choose another folder by --out, or delete it")
    reporter.line(f"calibrating {label} on {features.name}")
    fitted.calibrate(features, tpr, force=force, **how)
    if not from_images(features):
        reporter.line(
            f"{features.name} was not extracted from images by name: {place} decides on features, not images"
        )
        return fitted, fitted.save(place)
    training = None
    if training_rows and "train" in selection.entries and features.features:
        rows = selection.open(selection.train_split(""))
        training = choose_training_rows(rows, training_rows)
        reporter.line(f"keeping {len(training.ids)} of {len(rows)} rows of {rows.name} to show as neighbours")
    detector = make_detector(
        fitted, features, cache.code, training=training, data_dir=data_dir, reporter=reporter
    )
    reporter.line(stored_weights(detector.network)[1])
    return detector, detector.save(place)


def from_images(features: FeatureSet) -> bool:
    """Whether a set was extracted from images by a network that can be made again."""
    return features.origin is not None and "kind" not in features.recipe.get("transform", {"kind": ""})


def _images(features: FeatureSet, decoding: Decoding, data_dir: str | None) -> list[np.ndarray]:
    origin = features.origin
    assert origin is not None
    where = data_dir or origin.run.get("data_dir")
    try:
        images = open_images(origin.run.get("dataset", origin.dataset), origin.split, where)
        place = {name: row for row, name in enumerate(images.ids)}
        names = [] if features.ids is None else [str(name) for name in features.ids[:GOLDEN_IMAGES]]
        if not all(name in place for name in names):
            return []
        images = dataclasses.replace(images, decoding=decoding)
        return [images.read(place[name]) for name in names]
    except FeatoodError:
        return []
