"""Migration of a detector to another network, by images without labels."""

from __future__ import annotations

__all__ = ["Migrated", "migrate_detector"]

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from featood.cache import FeatureCache, FeatureSet
from featood.data import ImageSet
from featood.errors import DataError, UsageError
from featood.extractors.extract import ExtractOptions
from featood.files import temporary_folder
from featood.heads import Head, create_head
from featood.heads.base.calibration import predicted_classes
from featood.pipeline.detectors.detector import Detector, Prediction
from featood.pipeline.detectors.making import make_detector
from featood.pipeline.extraction import ImageSource, Network, decoded_as, extract_dataset
from featood.reporter import SILENT, Reporter


class Migrated(NamedTuple):
    """A detector with another network, compared with the earlier one on the images of its calibration."""

    detector: Detector
    fitted: int
    """Number of images that the head was fitted on; 0 if it does not learn."""
    flagged_before: float
    """Share of the calibration images that the earlier detector takes for out-of-distribution."""
    rank_correlation: float
    """Spearman's correlation between the scores of both detectors on the calibration images."""


def migrate_detector(
    detector: Detector,
    images: ImageSource,
    network: Network,
    *,
    fit_share: float = 0.5,
    seed: int = 0,
    code: Sequence[Any] = (),
    reporter: Reporter = SILENT,
) -> Migrated:
    """Return a detector with the head, options and false-alarm rate of another one, but another network.

    The head is fitted again on the features that the network has of some of the images, and calibrated on the others.
    A head that needs labels gets the classes that the network predicts, or else those of the earlier network.

    Parameters
    ----------
    detector : Detector
        The earlier one.
    images : ImageSource
        In-distribution images, one split; labels are not used.
    network : Network
        The other network.
    fit_share : float
        Share of the images to fit the head on, in (0, 1), if it learns.
    seed : int
        Seed of the choice of these images.
    code : sequence of str or Module
        Code that may be run; see :func:`featood.extractors.recipe.rebuild`.
    reporter : Reporter
        Receives a line about each choice, and the progress.

    Raises
    ------
    DataError
        If there are too few images for the false-alarm rate, or a head needs classes and neither network predicts them.
    """
    before = detector.calibration.record
    opened = decoded_as(images.open(reporter)[0], detector.network.decoding)
    if not isinstance(opened, ImageSet):
        raise UsageError(f"{opened.name} is a set of {opened.kind}, and the detector decides on images")
    with temporary_folder() as place:
        source = dataclasses.replace(
            images, splits=(opened.split,) if opened.split else (), decoding=opened.decoding
        )
        options = ExtractOptions(taps=_taps(detector))
        extracted = extract_dataset(FeatureCache(place), source, network, options, reporter=reporter)[0]
        features = _in_memory(extracted.features)
        earlier = _predictions(detector, opened, features, reporter)
        head = create_head(detector.head.name, **detector.head.options)
        rows = np.random.default_rng(seed).permutation(len(features))
        count = round(fit_share * len(features)) if head.learns else 0
        calibrated = features.rows(np.sort(rows[count:]))
        if head.learns:
            head.fit(_labelled(head, features, earlier, reporter).rows(np.sort(rows[:count])))
        head.calibrate(
            calibrated, 1 - before["alarm_rate"], confidence=before["confidence"], by_class=before["by_class"],
            force=True,  # other rows of the set that it was fitted on
        )  # fmt: skip
        found = make_detector(head, calibrated, code, data_dir=images.data_dir, reporter=reporter)
    again = [earlier[row] for row in np.sort(rows[count:])]
    return Migrated(
        found, count, float(np.mean([one.out for one in again])),
        _spearman(found.calibration.scores, np.array([one.score for one in again])),
    )  # fmt: skip


def _taps(detector: Detector) -> tuple[str, ...]:
    """Return the modules that the user named, without those that every extraction of the network taps."""
    network = detector.network
    return tuple(tap for tap in network.options.taps if tap not in network.backbone.taps)


def _in_memory(features: FeatureSet) -> FeatureSet:
    columns = {name: np.asarray(values[:]) for name, values in features.features.items()}
    logits = None if features.logits is None else np.asarray(features.logits[:])
    return dataclasses.replace(features, features=columns, logits=logits, labels=None)


def _predictions(
    detector: Detector, images: ImageSet, features: FeatureSet, reporter: Reporter
) -> list[Prediction]:
    """Return what the earlier detector says of the images that both can read, in the order of the features."""
    task = reporter.task(f"{detector.head.name}/{images.name} by the earlier network")
    found = {one.id: one for one in detector.predict(images, task)}
    return [found[name] for name in np.asarray(features.ids)]


def _labelled(
    head: Head, features: FeatureSet, earlier: Sequence[Prediction], reporter: Reporter
) -> FeatureSet:
    """Return the features with predicted classes as labels, if the head needs labels."""
    if "labels" not in head.needs:
        return features
    if features.logits is not None and features.num_classes and features.num_classes > 1:
        labels, whose = predicted_classes(features.logits), "the network"
    elif all(one.predicted is not None for one in earlier):
        labels, whose = np.array([one.predicted for one in earlier]), "the earlier network"
    else:
        raise DataError(f"{head.name} needs classes to be fitted, and neither network predicts them")
    reporter.line(f"{head.name} is fitted on the classes that {whose} predicts")
    return dataclasses.replace(features, labels=labels)


def _spearman(first: np.ndarray, second: np.ndarray) -> float:
    from scipy.stats import spearmanr

    return float(spearmanr(first, second).statistic)
