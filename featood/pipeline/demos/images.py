"""Demonstration on images: the complete pipeline on handwritten digits, without downloads."""

from __future__ import annotations

__all__ = ["HEADS", "OUTLIERS", "run_demo"]

from pathlib import Path
from typing import Any

from featood.cache import FeatureCache
from featood.extractors.trainer import Architecture, TrainOptions, is_extractor
from featood.pipeline.extraction import ImageSource, Network, extract_dataset
from featood.pipeline.fitting import fit_head
from featood.pipeline.scoring import Scoring, score_selection
from featood.pipeline.selection import select
from featood.pipeline.train_plan import TrainPlan
from featood.pipeline.training import train_extractor
from featood.reporter import SILENT, Reporter

NET = "cifar-resnet20"
INLIERS = "digits:0-6"
OUTLIERS = ("digits:7-9", "photo-patches", "noise")
HEADS = ("msp", "energy", "mahalanobis", "gmm", "knn", "heat-gmm")
SIZE = 16
TRAINING = TrainOptions(epochs=15, batch_size=64, lr=0.05, augment=("crop:2",), validation=0.0)


def run_demo(folder: Path, *, reporter: Reporter = SILENT) -> Scoring:
    """Train a small ResNet on the digits 0 to 6, extract, fit six heads, and score them against three sets.

    Parameters
    ----------
    folder : Path
        Folder of weights and cache; existing files are reused.
    reporter : Reporter
        Receives a line about each step, and the progress.
    """
    network = folder / "network"
    if not is_extractor(network):
        reporter.line(f"1. training {NET} on {INLIERS}")
        plan = TrainPlan(
            model="cross-entropy",
            dataset=INLIERS,
            architecture=Architecture(NET),
            out=network,
            image_size=SIZE,
        )
        train_extractor(plan, TRAINING, reporter=reporter)
    cache = FeatureCache(folder / "feature_cache")
    reporter.line("2. extracting features, once")
    extract_dataset(cache, ImageSource(INLIERS), Network(str(network)), reporter=reporter)
    selection = select(cache, network.name, INLIERS)
    reporter.line(f"3. fitting {len(HEADS)} heads from the cache")
    for name in HEADS:
        fit_head(selection, name, DEMO_OPTIONS.get(name), reporter=reporter)
    reporter.line("4. scoring")
    return score_selection(selection, HEADS, OUTLIERS, reporter=reporter)


DEMO_OPTIONS: dict[str, dict[str, Any]] = {"heat-gmm": {"epochs": 20, "batch_size": 64}}
"""Settings that take seconds instead of minutes for 64 features."""
