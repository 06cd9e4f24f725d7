"""Golden inputs: images whose inputs, features and score a detector must compute again."""

from __future__ import annotations

__all__ = ["Golden", "compare", "record_golden"]

import dataclasses
import importlib.metadata
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from featood.errors import Mismatch
from featood.heads.base.head import Head
from featood.pipeline.detectors.network import ImageNetwork

TOLERANCE = 1e-3
"""Largest difference of features and scores, relative to their standard deviation and size."""
INPUT_TOLERANCE = 1e-4
"""Largest difference of network inputs."""


@dataclasses.dataclass(frozen=True, eq=False)
class Golden:
    """Images, and what a detector computed of them."""

    images: Sequence[np.ndarray]
    """Decoded images, uint8."""
    inputs: np.ndarray
    """Network inputs ``[K, C, H, W]``."""
    columns: Mapping[str, np.ndarray]
    """Features ``[K, D]`` by name, and logits."""
    scores: np.ndarray
    """``[K]``."""
    scale: float
    """Standard deviation of the scores of the calibration set."""


def record_golden(network: ImageNetwork, head: Head, images: Sequence[np.ndarray], scale: float) -> Golden:
    """Compute the inputs, features and scores of some images."""
    inputs = network.inputs(images)
    features = network.features(inputs)
    columns: dict[str, Any] = dict(features.features)
    if features.logits is not None:
        columns["logits"] = features.logits
    return Golden(images, inputs.numpy(), columns, np.asarray(head.score(features)), scale)


def compare(golden: Golden, network: ImageNetwork, head: Head, versions: Mapping[str, str]) -> None:
    """Compute all again, and compare step by step.

    Parameters
    ----------
    golden : Golden
        As recorded.
    network, head
        Of the detector.
    versions : mapping of str to str
        Versions of the libraries at the time of recording.

    Raises
    ------
    Mismatch
        If something differs. The message names the first step that does, with the libraries that have changed.
    """
    changed = _changed(versions)
    again = record_golden(network, head, golden.images, golden.scale)
    if again.inputs.shape != golden.inputs.shape:
        raise Mismatch(
            f"self-test failed: the preprocessing makes inputs {list(again.inputs.shape[1:])}, not "
            f"{list(golden.inputs.shape[1:])}"
        )
    if (worst := float(np.abs(again.inputs - golden.inputs).max())) > INPUT_TOLERANCE:
        raise Mismatch(
            f"self-test failed: the preprocessing makes other inputs of the same images "
            f"(largest difference {worst:.3g}); resizing, colour order or normalisation differ{changed}"
        )
    for name, values in golden.columns.items():
        found = again.columns.get(name)
        if found is None or found.shape != values.shape:
            raise Mismatch(
                f"self-test failed: the network does not compute the column {name} as before{changed}"
            )
        if (worst := _difference(found, values)) > TOLERANCE:
            raise Mismatch(
                f"self-test failed: the network computes other values of {name} for the same inputs "
                f"(largest difference {worst:.3g} standard deviations); weights, precision or library differ{changed}"
            )
    worst = float((np.abs(again.scores - golden.scores) / (golden.scale + np.abs(golden.scores))).max())
    if not worst <= TOLERANCE:
        raise Mismatch(
            f"self-test failed: the head computes other scores of the same features (relative difference {worst:.3g})"
            f"{changed}"
        )


def _difference(found: np.ndarray, expected: np.ndarray) -> float:
    wide, narrow = expected.astype(np.float64), found.astype(np.float64)
    scale = wide.std() + 1e-12
    return float(np.nan_to_num(np.abs(wide - narrow) / scale, nan=np.inf).max())


def _changed(versions: Mapping[str, str]) -> str:
    found = []
    for name, before in versions.items():
        try:
            now = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        if now.partition("+")[0] != before.partition("+")[0]:
            found.append(f"{name} {before} then, {now} now")
    return f" ({'; '.join(found)})" if found else ""
