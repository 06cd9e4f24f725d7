"""What is exported, by name: the folder of a detector, or a fitted head of a cache."""

from __future__ import annotations

__all__ = ["detector_in", "golden_rows", "head_in"]

from collections.abc import Sequence
from pathlib import Path

from featood.cache.feature_cache import FeatureCache
from featood.cache.feature_set import FeatureSet
from featood.heads.base.head import Head
from featood.pipeline.detectors import Detector
from featood.pipeline.export.exporting import golden_images
from featood.pipeline.fitted_heads import chosen_head
from featood.pipeline.selection import select
from featood.reporter import SILENT, Reporter


def detector_in(name: str, code: Sequence[str] = ()) -> Detector | None:
    """Return the detector in a folder, on the CPU and tested on its golden inputs; None if it is no folder."""
    return Detector.load(name, code, "cpu") if Path(name).is_dir() else None


def head_in(
    cache: FeatureCache, name: str, backbone: str = "", dataset: str = "", reporter: Reporter = SILENT
) -> tuple[Head, FeatureSet]:
    """Return a fitted head of a cache, and the rows of the test set.

    Raises
    ------
    UsageError
        If there is no such head, or several.
    """
    selection = select(cache, backbone, dataset)
    return chosen_head(selection, name, reporter)[1], selection.open(selection.test_split(""))


def golden_rows(detector: Detector) -> FeatureSet:
    """Return the features of the images that a detector is compared by."""
    return detector.network.features(detector.network.inputs(golden_images(detector)))
