"""Export of heads and detectors to files, each compared with the original before it is kept."""

from __future__ import annotations

__all__ = ["TOLERANCE", "Export", "export_detector", "export_head", "golden_images"]

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from featood.cache.feature_set import as_feature_set
from featood.cache.manifest import library_versions
from featood.errors import Mismatch
from featood.extractors.transform import INTERPOLATIONS
from featood.files import atomic_write
from featood.heads.base.calibration import Calibration
from featood.heads.base.head import Head
from featood.pipeline.detectors.detector import Detector, Prediction
from featood.pipeline.export.formats import format_of
from featood.pipeline.export.graphs import DetectorGraph, HeadGraph
from featood.pipeline.export.tracing import traced

TOLERANCE = 1e-4
"""Largest difference of a score relative to its size, or to the spread of the scores if that is larger."""
ROWS = 256
"""Number of rows by which a head is compared."""
NOISE_IMAGES = 4
RESIZING = 0.05
"""Largest difference of scores by resizing in the graph, relative as `TOLERANCE`."""
ROUNDING = 1e-9
"""Largest difference of p-values."""


@dataclasses.dataclass(frozen=True)
class Export:
    """A file that was written, and how it differs from the original."""

    path: Path
    inputs: Sequence[str]
    outputs: Sequence[str]
    rows: int
    """Number of rows, or images, that were compared."""
    compared_on: str
    """What they were."""
    difference: float
    """Largest difference of a score, relative as `TOLERANCE` is."""
    resizing: float | None = None
    """The same for images that the graph resized, not the detector; None if it does not resize."""


def export_head(head: Head, source: Any, path: str | Path, tolerance: float = TOLERANCE) -> Export:
    """Write a head alone: from the columns that it reads to scores.

    Parameters
    ----------
    head : Head
        A fitted head, or one without a fit.
    source : FeatureSet or array
        Rows with which the file is compared, such as those of the test set.
    path : path
        A file that ends in ``.onnx`` or ``.pt2``.
    tolerance : float
        Largest difference; see `TOLERANCE`.

    Raises
    ------
    UsageError
        If the head cannot be exported; the message says why.
    Mismatch
        If the file computes other scores, in which case none is written.

    Example
    -------
    ::

        head = featood.create_head("mahalanobis").fit(features, labels)
        export_head(head, features, "mahalanobis.onnx")
    """
    path = Path(path)
    source = as_feature_set(source).rows(slice(0, ROWS)).to_torch()
    graph = HeadGraph(head, source)
    values = [source.logits if name == "logits" else source.feature(name) for name in graph.names]
    arrays = [np.asarray(one) for one in values]
    expected = np.asarray(head.score(source), np.float64)
    content, run = _made(head.name, graph, path, arrays, graph.names, ["score"], _facts(head))
    (scores,) = run(arrays)
    worst = _difference(scores, expected, float(expected.std()))
    _require("its scores differ", worst, tolerance, path)
    atomic_write(path, content)
    return Export(path, graph.names, ["score"], len(expected), source.name, worst)


def export_detector(
    detector: Detector,
    path: str | Path,
    image_size: tuple[int, int] | None = None,
    tolerance: float = TOLERANCE,
) -> Export:
    """Write network, head and thresholds as one graph: from 8-bit images to scores, p-values and decisions.

    The input ``images`` is uint8 ``[B, height, width, channels]``; scaling and normalisation are part of the graph. By
    default, images have the size of the network's inputs, and are resized and cropped before as the metadata describe.
    The golden inputs of the detector are scored by the file, or noise if it has none.

    Parameters
    ----------
    detector : Detector
        The detector.
    path, tolerance
        See :func:`export_head`.
    image_size : (int, int), optional
        Height and width of all images, which the graph then resizes and crops. Its resizing is not exactly that of
        Pillow; `Export.resizing` is the difference of the scores.

    Raises
    ------
    UsageError
        If the detector cannot be exported; the message says why.
    Mismatch
        If scores, p-values, decisions or classes differ, in which case no file is written.
    """
    path, transform = Path(path), detector.network.transform
    images, spread = golden_images(detector), float(detector.calibration.scores.std())
    facts = {
        **_facts(detector.head),
        "calibration": dict(detector.calibration.record),
        "thresholds": detector.calibration.thresholds.tolist(),
        "classes": list(detector.network.classes),
        "transform": transform.as_json(),
        "image_size": list(image_size or (transform.height, transform.width)),
    }

    def make(size: tuple[int, int] | None, pixels: np.ndarray) -> tuple[bytes, dict[str, np.ndarray]]:
        graph = DetectorGraph(detector.network, detector.head, detector.calibration, size)
        content, run = _made("the detector", graph, path, [pixels], ["images"], graph.outputs, facts)
        return content, dict(zip(graph.outputs, run([pixels]), strict=True))

    content, found = make(None, np.stack([transform.pixels(image) for image in images]))
    expected = [detector(image) for image in images]
    worst = _difference(found["score"], _scores(expected), spread)
    _require("its scores differ", worst, tolerance, path)
    _require_decisions(detector.calibration, found, expected, worst, path)
    resizing = None
    if image_size:
        images = [_at_size(image, image_size, transform.channels) for image in images]
        content, found = make(image_size, np.stack(images))
        resizing = _difference(found["score"], _scores([detector(image) for image in images]), spread)
        _require("resizing in the graph changes its scores", resizing, RESIZING, path)
    atomic_write(path, content)
    on = "golden images" if detector.golden else "images of noise"
    return Export(path, ["images"], tuple(found), len(images), on, worst, resizing)


def _made(
    name: str,
    graph: nn.Module,
    path: Path,
    arrays: Sequence[np.ndarray],
    inputs: Sequence[str],
    outputs: Sequence[str],
    facts: Mapping[str, Any],
) -> tuple[bytes, Any]:
    """Return the content of a file, and the function that it computes where it is to run."""
    kind = format_of(path)
    examples: list[Tensor] = [
        torch.from_numpy(np.ascontiguousarray(values[:1].repeat(2, 0))) for values in arrays
    ]
    program = traced(name, graph, examples)
    metadata = {**facts, "inputs": list(inputs), "outputs": list(outputs)}
    content = kind.encode(name, program, inputs, outputs, metadata)
    return content, kind.load(content)


def _facts(head: Head) -> dict[str, Any]:
    return {
        "head": head.name,
        "options": {
            name: list(value) if isinstance(value, tuple) else value for name, value in head.options.items()
        },
        "fitted_on": head.record.fitted_on,
        "score": "higher = more out-of-distribution",
        "versions": dict(library_versions()),
    }


def golden_images(detector: Detector) -> list[np.ndarray]:
    """Return images to compare by: the golden ones, or noise if there are none."""
    if detector.golden is not None:
        return list(detector.golden.images)
    channels, *size = detector.network.transform.shape
    return list(np.random.default_rng(0).integers(0, 256, (NOISE_IMAGES, *size, channels), np.uint8))


def _at_size(image: np.ndarray, size: tuple[int, int], channels: int) -> np.ndarray:
    picture = Image.fromarray(image.squeeze()).convert("L" if channels == 1 else "RGB")
    return np.asarray(picture.resize(size[::-1], INTERPOLATIONS["bicubic"])).reshape(*size, channels)


def _scores(predictions: Sequence[Prediction]) -> np.ndarray:
    return np.array([one.score for one in predictions])


def _difference(found: np.ndarray, expected: np.ndarray, spread: float) -> float:
    size = np.maximum(np.abs(expected), spread or np.finfo(float).tiny)
    return float(np.nan_to_num(np.abs(found - expected) / size, nan=np.inf).max())


def _require(what: str, worst: float, tolerance: float, path: Path) -> None:
    if not worst <= tolerance:
        raise Mismatch(
            f"{path} was not written: {what} by {worst:.3g}, relative to the original; at most {tolerance:g}"
        )


def _require_decisions(
    calibration: Calibration,
    found: Mapping[str, np.ndarray],
    expected: Sequence[Prediction],
    difference: float,
    path: Path,
) -> None:
    """Require classes, p-values and decisions to be those of the original, or of scores as close as the file's are."""
    predicted = np.array([one.predicted for one in expected])
    if "predicted" in found and not np.array_equal(found["predicted"], predicted):
        raise Mismatch(f"{path} was not written: it predicts other classes than the detector")
    scores = _scores(expected)
    slack = difference * np.maximum(np.abs(scores), calibration.scores.std())
    low, high = (calibration.decide(scores + sign * slack, predicted) for sign in (-1, 1))
    p, out = found["p_value"], found["out"]
    if ((p > low.p_values + ROUNDING) | (p < high.p_values - ROUNDING)).any():
        raise Mismatch(f"{path} was not written: its p-values differ from those of the detector")
    if ((out != low.out) & (out != high.out)).any():
        raise Mismatch(f"{path} was not written: its decisions differ from those of the detector")
