"""A detector: from images to decisions."""

from __future__ import annotations

__all__ = ["Detector", "Prediction"]

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from featood.data import ImageSet
from featood.errors import DataError, FeatoodError
from featood.heads.base.head import WORST, Head
from featood.pipeline.detectors.calibration import Calibration
from featood.pipeline.detectors.golden import Golden, compare
from featood.pipeline.detectors.network import ImageNetwork
from featood.pipeline.detectors.pixels import as_pixels
from featood.pipeline.result_rows import predicted_classes


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
    calibration: Calibration
    network: ImageNetwork
    golden: Golden | None
    """None if the images of the calibration set were not available."""
    versions: Mapping[str, str]
    """Versions of the libraries when it was made."""

    @classmethod
    def load(
        cls, folder: str | Path, code: Sequence[Any] = (), device: str = "auto", test: bool = True
    ) -> Detector:
        """Read a folder, and test that it still computes the scores of its golden inputs.

        Parameters
        ----------
        folder : path
            As written by :meth:`save`.
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

        found = load_detector(Path(folder), code, device)
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

    def __call__(self, image: Any) -> Prediction:
        """Decide on one image: a path, the content of a file, a PIL image, or an array or tensor of 8-bit values.

        Raises
        ------
        DataError
            If it cannot be read.
        """
        name = str(image) if isinstance(image, str | Path) else ""
        pixels = self.network.transform.pixels(as_pixels(image, self.network.decoding))
        return self.decide(np.stack([pixels]), [name])[0]

    def predict(
        self, images: ImageSet, progress: Callable[[int, int], None] | None = None
    ) -> Iterator[Prediction]:
        """Decide on a set of images, batch by batch; an image that cannot be read has an error.

        Parameters
        ----------
        images : ImageSet
            The images.
        progress : callable, optional
            Called as ``progress(done, total)``.
        """
        size = self.network.options.batch_size
        for start in range(0, len(images), size):
            rows = range(start, min(start + size, len(images)))
            pixels: list[np.ndarray] = []
            errors: dict[int, str] = {}
            for row in rows:
                try:
                    pixels.append(self.network.transform.pixels(images.read(row)))
                except DataError as error:
                    errors[row] = str(error)
            good = [row for row in rows if row not in errors]
            names = [images.ids[row] for row in good]
            decided = iter(self.decide(np.stack(pixels), names, start) if good else ())
            for row in rows:
                yield Prediction(images.ids[row], None, error=errors[row]) if row in errors else next(decided)
            if progress is not None:
                progress(rows.stop, len(images))

    def decide(self, pixels: np.ndarray, ids: Sequence[str], row: int = 0) -> list[Prediction]:
        """Decide on images that were resized and cropped already, as ``network.transform.pixels`` does.

        Parameters
        ----------
        pixels : ndarray
            uint8 ``[B, height, width, channels]``.
        ids : sequence of str
            Their names.
        row : int
            Number of the first of them in all images, on which columns with random numbers depend.

        Raises
        ------
        FeatoodError
            If an image gets no finite score.
        """
        features = self.network.features(self.network.transform.normalise(pixels), row)
        scores = np.asarray(self.head.score(features), np.float64)
        if (scores >= WORST).any():
            raise FeatoodError(f"{self.head.name} gives no finite score for some of the images")
        classes = predicted_classes(features.logits) if features.logits is not None else None
        decided = self.calibration.decide(scores, classes)
        names = self.network.classes
        return [
            Prediction(
                ids[number], float(scores[number]), float(decided.p_values[number]), bool(decided.out[number]),
                None if classes is None else int(classes[number]),
                names[int(classes[number])] if classes is not None and int(classes[number]) < len(names) else "",
            )
            for number in range(len(ids))
        ]  # fmt: skip
