"""Demonstration on images: the complete pipeline on handwritten digits, without downloads."""

from __future__ import annotations

__all__ = ["HEADS", "OUTLIERS", "run_demo"]

from pathlib import Path

from featood.cache import FeatureCache
from featood.data import open_dataset
from featood.extractors.backbones import resolve_backbone
from featood.extractors.classifier import TrainOptions, train_classifier
from featood.extractors.recipe import choose_transform
from featood.pipeline.extraction import ImageSource, extract_sets
from featood.pipeline.fitting import fit_head
from featood.pipeline.scoring import Scoring, score_selection
from featood.pipeline.selection import select
from featood.reporter import SILENT, Reporter

NET = "cifar-resnet20"
INLIERS = "digits:0-6"
OUTLIERS = ("digits:7-9", "photo-patches", "noise")
HEADS = ("msp", "energy", "mahalanobis", "gmm", "knn", "heat-gmm")
SIZE = 16
TRAINING = TrainOptions(epochs=15, batch_size=64, shift=2, flip=False, learning_rate=0.05)


def run_demo(folder: Path, *, reporter: Reporter = SILENT) -> Scoring:
    """Train a small ResNet on the digits 0 to 6, extract, fit six heads, and score them against three sets.

    Parameters
    ----------
    folder : Path
        Folder of weights and cache; existing files are reused.
    reporter : Reporter
        Receives a line about each step, and the progress.
    """
    weights = folder / "weights.safetensors"
    images = open_dataset(INLIERS, "train")
    if not weights.exists():
        reporter.line(f"1. training {NET} on {INLIERS} ({len(images)} images, {TRAINING.epochs} epochs)")
        untrained = resolve_backbone(NET, "random")
        transform, _ = choose_transform(untrained, images, image_size=SIZE)
        grey = type(transform)(1, SIZE, SIZE, 0, transform.mean[:1], transform.std[:1])
        train_classifier(NET, images, grey, weights, TRAINING, progress=reporter.task("training"))
    cache = FeatureCache(folder / "feature_cache")
    reporter.line("2. extracting features, once")
    backbone = resolve_backbone(NET, str(weights))
    run = {"weights_file": str(weights.resolve()), "dataset": INLIERS}
    sets = ImageSource(INLIERS).open()
    transform, _ = choose_transform(backbone, sets[0], image_size=SIZE)
    extract_sets(cache, backbone, sets, transform, run=run, reporter=reporter)
    selection = select(cache, backbone.slug, INLIERS)
    reporter.line(f"3. fitting {len(HEADS)} heads from the cache")
    for name in HEADS:
        fit_head(selection, name, DEMO_OPTIONS.get(name), reporter=reporter)
    reporter.line("4. scoring")
    return score_selection(selection, HEADS, OUTLIERS, reporter=reporter)


DEMO_OPTIONS = {"heat-gmm": {"epochs": 20, "batch_size": 64}}
