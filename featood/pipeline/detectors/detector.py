"""A detector: from images to decisions."""

from __future__ import annotations

__all__ = ["Detector", "Prediction", "ScoredImages"]

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from featood.cache.feature_set import FeatureSet
from featood.data import ImageSet
from featood.errors import DataError, FeatoodError, UsageError
from featood.heads.base.calibration import Calibration, predicted_classes
from featood.heads.base.head import WORST, Head
from featood.pipeline.detectors.golden import Golden, compare
from featood.pipeline.detectors.neighbours import Neighbour, TrainingRows
from featood.pipeline.detectors.network import ImageNetwork
from featood.pipeline.detectors.pixels import as_pixels
from featood.pipeline.detectors.reference import Reference
from featood.remote import local_folder


class ScoredImages(NamedTuple):
    """Some rows of a set of images, with what was computed of those that could be read."""

    ids: Sequence[str]
    """Paths or numbers of all images."""
    errors: Mapping[int, str]
    """Why an image could not be read, by its place among them."""
    features: FeatureSet | None
    """Features of the G images that could be read; None if there are none."""
    scores: np.ndarray
    """Their scores ``[G]``."""
    classes: np.ndarray | None
    """Their predicted classes ``[G]``; None if the network does not classify."""

    @property
    def read(self) -> list[str]:
        """Paths or numbers of the images that could be read."""
        return [name for place, name in enumerate(self.ids) if place not in self.errors]


class Prediction(NamedTuple):
    """The decision on one image."""

    id: str
    """Its path or number."""
    score: float | None
    """Higher = more out-of-distribution; None if the image could not be read."""
    p_value: float | None = None
    """Share of in-distribution images with a score at least as high."""
    out: bool | None = None
    """Whether the score is above the threshold."""
    predicted: int | None = None
    """Predicted class; None if the network does not classify."""
    class_name: str = ""
    """Its name, if known."""
    error: str = ""
    """Why the image could not be read."""
    neighbours: Sequence[Neighbour] = ()
    """The nearest training rows, if they were asked for."""


@dataclasses.dataclass(frozen=True, eq=False)
class Detector:
    """A head with the network whose features it was fitted on, and its thresholds.

    Make one with :func:`~featood.pipeline.detectors.make_detector` or ``featood threshold``, and load it with
    :meth:`load`.

    Example
    -------
    ::

        detector = featood.Detector.load("knn-detector")
        detector("photo.jpg").out
    """

    head: Head
    """Fitted and calibrated."""
    network: ImageNetwork
    golden: Golden | None
    """None if the images of the calibration set were not available."""
    versions: Mapping[str, str]
    """Versions of the libraries when it was made."""
    reference: Reference | None = None
    """Calibration rows to compare later rows with; None if it was made without."""
    training: TrainingRows | None = None
    """Training rows to show as neighbours; None if it was made without."""

    def __post_init__(self) -> None:
        if self.head.calibration is None:
            raise UsageError(f"{self.head.name} has no threshold; calibrate it first (head.calibrate)")

    @property
    def calibration(self) -> Calibration:
        """The calibration of the head."""
        assert self.head.calibration is not None
        return self.head.calibration

    @classmethod
    def load(
        cls, folder: str | Path, code: Sequence[Any] = (), device: str = "auto", test: bool = True
    ) -> Detector:
        """Read a folder, and test that it still computes the scores of its golden inputs.

        Parameters
        ----------
        folder : path
            As written by :meth:`save`; or its address on the Hugging Face hub, ``hf://USER/NAME``.
        code : sequence of str or Module
            Code that may be run, for a network made by a callable: its name ``python:MODULE:CALLABLE``, or the network.
        device : str
            ``auto`` selects a GPU if there is one.
        test : bool
            Whether to test it.

        Raises
        ------
        DataError
            If there is no detector.
        CacheCorrupt
            If a file is damaged.
        Mismatch
            If the test fails, or the network is no longer available with the same weights.
        """
        from featood.pipeline.detectors.folder import load_detector

        found = load_detector(local_folder(folder), code, device)
        if test:
            found.test()
        return found

    def save(self, folder: str | Path) -> Path:
        """Write a folder that :meth:`load` reads."""
        from featood.pipeline.detectors.folder import save_detector

        return save_detector(self, Path(folder))

    def test(self) -> None:
        """Compute the scores of the golden inputs again.

        Raises
        ------
        Mismatch
            If they differ; the message names what does.
        """
        if self.golden is not None:
            compare(self.golden, self.network, self.head, self.versions)

    def __call__(self, image: Any, neighbours: int = 0) -> Prediction:
        """Decide on one image: a path, the content of a file, a PIL image, or an array or tensor of 8-bit values.

        Parameters
        ----------
        image : path, PIL image, array or tensor
            The image.
        neighbours : int
            Number of nearest training rows to return with it.

        Raises
        ------
        DataError
            If it cannot be read.
        """
        name = str(image) if isinstance(image, str | Path) else ""
        pixels = self.network.transform.pixels(as_pixels(image, self.network.decoding))
        return self.decide(np.stack([pixels]), [name], neighbours)[0]

    def predict(
        self,
        images: ImageSet | Sequence[Any],
        progress: Callable[[int, int], None] | None = None,
        neighbours: int = 0,
    ) -> Iterator[Prediction]:
        """Decide on images, batch by batch; an image that cannot be read has an error.

        Parameters
        ----------
        images : ImageSet or sequence
            A set of images, or images of any form that the detector takes when called.
        progress : callable, optional
            Called as ``progress(done, total)``.
        neighbours : int
            Number of nearest training rows to return with each image.

        Raises
        ------
        UsageError
            If it was made without training rows, and neighbours are asked for.
        """
        for part in self.score(images, progress):
            decided = iter(self._decide(part, neighbours))
            for place, name in enumerate(part.ids):
                failed = part.errors.get(place)
                yield Prediction(name, None, error=failed) if failed else next(decided)

    def score(
        self, images: ImageSet | Sequence[Any], progress: Callable[[int, int], None] | None = None
    ) -> Iterator[ScoredImages]:
        """Compute features and scores of images, batch by batch.

        Parameters
        ----------
        images, progress
            See :meth:`predict`.
        """
        size, total = self.network.options.batch_size, len(images)
        for start in range(0, total, size):
            pixels: list[np.ndarray] = []
            errors: dict[int, str] = {}
            names = []
            for row in range(start, min(start + size, total)):
                try:
                    if isinstance(images, ImageSet):
                        names.append(images.ids[row])
                        image = images.read(row)
                    else:
                        names.append(str(images[row]) if isinstance(images[row], str | Path) else str(row))
                        image = as_pixels(images[row], self.network.decoding)
                    pixels.append(self.network.transform.pixels(image))
                except DataError as error:
                    errors[row - start] = str(error)
            yield self._scored(np.stack(pixels) if pixels else None, names, errors, start)
            if progress is not None:
                progress(start + len(names), total)

    def decide(self, pixels: np.ndarray, ids: Sequence[str], neighbours: int = 0) -> list[Prediction]:
        """Decide on images that were resized and cropped already, as ``network.transform.pixels`` does.

        Parameters
        ----------
        pixels : ndarray
            uint8 ``[B, height, width, channels]``.
        ids : sequence of str
            Their names.
        neighbours : int
            See :meth:`predict`.

        Raises
        ------
        FeatoodError
            If an image gets no finite score.
        """
        return self._decide(self._scored(pixels, ids, {}, 0), neighbours)

    def _scored(
        self, pixels: np.ndarray | None, ids: Sequence[str], errors: Mapping[int, str], row: int
    ) -> ScoredImages:
        if pixels is None:
            return ScoredImages(ids, errors, None, np.zeros(0), None)
        features = self.network.features(self.network.transform.normalise(pixels), row)
        scores = np.asarray(self.head.score(features), np.float64)
        if (scores >= WORST).any():
            raise FeatoodError(f"{self.head.name} gives no finite score for some of the images")
        return ScoredImages(ids, errors, features, scores, predicted_classes(features.logits))

    def _decide(self, part: ScoredImages, neighbours: int) -> list[Prediction]:
        if part.features is None:
            return []
        ids, classes, names = part.read, part.classes, self.network.classes
        near: Sequence[Sequence[Neighbour]] = [()] * len(ids)
        if neighbours:
            if self.training is None:
                raise UsageError("the detector has no training rows; make it again with featood threshold")
            near = self.training.nearest(part.features, neighbours, names)
        decided = self.calibration.decide(part.scores, classes)
        return [
            Prediction(
                ids[number], float(part.scores[number]), float(decided.p_values[number]),
                bool(decided.out[number]),
                None if classes is None else int(classes[number]),
                names[int(classes[number])] if classes is not None and int(classes[number]) < len(names) else "",
                neighbours=near[number],
            )
            for number in range(len(ids))
        ]  # fmt: skip
