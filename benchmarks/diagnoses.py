"""Diagnoses of changes whose cause is known: how often each cause is named.

    python benchmarks/diagnoses.py --cache feature_cache --backbone NAME --data-dir data

Of each cause, rows since the change are drawn again and again, and compared with calibration rows. Each share is beside
that of a diagnosis that always says ``new class``; one that knows the cause is right in 100 %.
"""

from __future__ import annotations

__all__ = ["diagnoses", "main", "sources"]

import argparse
import dataclasses
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from common import save, show
from scipy import ndimage

from featood.cache import FeatureCache
from featood.data import ImageSet, open_dataset
from featood.decisions import threshold
from featood.heads import create_head
from featood.heads.base.calibration import predicted_classes
from featood.pipeline.detectors import Detector
from featood.pipeline.detectors.network import ImageNetwork
from featood.pipeline.detectors.reference import REFERENCE_ROWS, Reference
from featood.pipeline.monitoring.diagnosis import Window, diagnose
from featood.pipeline.selection import select
from featood.speed.environment import environment

DISTORTIONS = {
    "blurred": lambda pixels: ndimage.gaussian_filter(pixels, (0, 0.8, 0.8, 0)),
    "less contrast": lambda pixels: (128 + 0.4 * (pixels - 128.0)).clip(0, 255).astype(np.uint8),
    "half the pixels": lambda pixels: pixels[:, ::2, ::2].repeat(2, 1).repeat(2, 2),
    "inverted": lambda pixels: 255 - pixels,
    "noise": lambda pixels: (
        (pixels + np.random.default_rng(0).normal(0, 15, pixels.shape)).clip(0, 255).astype(np.uint8)
    ),
}


class Rows(NamedTuple):
    """What a detector computes of rows."""

    features: np.ndarray
    scores: np.ndarray
    classes: np.ndarray

    def at(self, rows: np.ndarray) -> Rows:
        """Return some of them."""
        return Rows(*(values[rows] for values in self))


def sources(
    detector: Detector, images: ImageSet, data_dir: str, others: list[str]
) -> Iterator[tuple[str, str, Rows]]:
    """Yield a name, the right diagnosis, and rows of each change."""
    pixels = np.stack([images.read(row) for row in range(2000)])
    for name, change in DISTORTIONS.items():
        changed = dataclasses.replace(images.subset(range(2000)), array=change(pixels), root=None)
        yield name, "sensor shift", rows_of(detector, changed)
    for name in others:
        other = open_dataset(name, "test", data_dir)
        yield (
            f"a class of {name}",
            "new class",
            rows_of(detector, other.subset(np.asarray(other.labels) == 0)),
        )


def rows_of(detector: Detector, images: ImageSet) -> Rows:
    """Compute features, scores and classes."""
    parts = list(detector.score(images))
    features = np.concatenate([np.asarray(part.features.feature()) for part in parts if part.features])
    classes = np.concatenate([part.classes for part in parts if part.classes is not None])
    return Rows(features, np.concatenate([part.scores for part in parts]), classes)


def diagnoses(known: Rows, changed: Rows | None, mixing: float, count: int, draws: int) -> list[str]:
    """Return a diagnosis of each draw: of rows mixed with changed ones, or else of fewer classes."""
    found = []
    for number in range(draws):
        rng = np.random.default_rng(number)
        order = rng.permutation(len(known.scores))
        calibration, rest = known.at(order[: len(order) // 2]), known.at(order[len(order) // 2 :])
        limit = threshold(calibration.scores)
        reference = calibration.at(np.arange(REFERENCE_ROWS))
        if changed is None:
            kept = rng.permutation(10)[:4]
            window = rest.at(np.flatnonzero(np.isin(rest.classes, kept))[:count])
        else:
            new = changed.at(rng.permutation(len(changed.scores))[: round(mixing * count)])
            old = rest.at(np.arange(count - len(new.scores)))
            window = Rows(*(np.concatenate(pair) for pair in zip(old, new, strict=True)))
        rows = Window(
            [""] * count, window.scores, window.scores, window.scores > limit, window.features, window.classes
        )
        about = Reference("", reference.features, reference.scores, reference.classes, ())
        found.append(diagnose(about, reference.scores > limit, rows, "higher").kind)
    return found


def main() -> None:
    """Print a row for each cause."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cache", default="feature_cache")
    parser.add_argument("--backbone", default="")
    parser.add_argument("--dataset", default="")
    parser.add_argument("--data-dir", default=os.environ.get("FEATOOD_DATA", "data"))
    parser.add_argument("--head", default="knn")
    parser.add_argument("--others", nargs="+", default=["mnist", "fashion-mnist"])
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--draws", type=int, default=50)
    parser.add_argument("--json", default="")
    given = parser.parse_args()
    cache = FeatureCache(given.cache)
    selection = select(cache, given.backbone, given.dataset, given.data_dir)
    train, test = (selection.open(split) for split in (selection.train_split(""), selection.test_split("")))
    assert test.origin is not None
    head = create_head(given.head)
    if head.learns:
        head.fit(train)
    detector = Detector(head.calibrate(test), ImageNetwork(test.origin), None, {})
    classes = predicted_classes(test.logits)
    assert classes is not None
    known = Rows(np.asarray(test.feature()[:]), np.asarray(head.score(test), np.float64), classes)
    causes: list[tuple[str, str, Rows | None, float]] = [("four of ten classes", "harmless drift", None, 1.0)]
    images = open_dataset(selection.dataset, "test", given.data_dir)
    for name, kind, rows in sources(detector, images, given.data_dir, given.others):
        shares = (1.0,) if kind == "sensor shift" else (0.1, 0.3)
        causes += [(name, kind, rows, share) for share in shares]
    table: list[dict[str, Any]] = []
    for name, kind, rows, share in causes:
        found = diagnoses(known, rows, share, given.rows, given.draws)
        table.append(
            {
                "cause": name, "changed rows %": 100 * share, "right": kind,
                "named %": 100 * found.count(kind) / len(found),
                "always new class %": 100.0 * (kind == "new class"),
                "others": ", ".join(f"{other} {found.count(other)}" for other in sorted({*found} - {kind})),
            }
        )  # fmt: skip
    show(f"{given.head}, {given.draws} draws of {given.rows} rows since the change", table)
    save(given.json, environment(), diagnoses=table)


if __name__ == "__main__":
    main()
