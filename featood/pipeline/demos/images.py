"""The demonstration: the whole line on handwritten digits, with nothing to download."""

from __future__ import annotations

__all__ = ["HEADS", "OUTLIERS", "run_demo"]

from collections.abc import Callable
from pathlib import Path

from featood.cache import FeatureCache
from featood.data import open_dataset
from featood.extractors.backbones import resolve_backbone
from featood.extractors.classifier import TrainOptions, train_classifier
from featood.extractors.recipe import choose_transform
from featood.pipeline.extraction import extract_sets, open_splits
from featood.pipeline.fitting import fit_head
from featood.pipeline.scoring import Scoring, score_selection
from featood.pipeline.selection import select

NET = "cifar-resnet20"
INLIERS = "digits:0-6"
OUTLIERS = ("digits:7-9", "photo-patches", "noise")
HEADS = ("msp", "energy", "mahalanobis", "gmm", "knn", "heat-gmm")
SIZE = 16
TRAINING = TrainOptions(epochs=15, batch_size=64, shift=2, flip=False, learning_rate=0.05)


def run_demo(
    folder: Path,
    progress: Callable[..., None] | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Scoring:
    """Train a small ResNet on the digits 0 to 6, extract, fit six heads, and score them against three sets.

    Parameters
    ----------
    folder : Path
        Where weights and cache go; what is there already is not made again.
    progress : callable, optional
        Called as ``progress(what, done, total, **figures)``.
    say : callable
        Takes one line about each step.
    """
    weights = folder / "weights.safetensors"
    report = progress or (lambda *_, **__: None)
    images = open_dataset(INLIERS, "train")
    if not weights.exists():
        say(f"1. training {NET} on {INLIERS} ({len(images)} images, {TRAINING.epochs} epochs)")
        untrained = resolve_backbone(NET, "random")
        transform, _ = choose_transform(untrained, images, image_size=SIZE)
        grey = type(transform)(1, SIZE, SIZE, 0, transform.mean[:1], transform.std[:1])
        train_classifier(
            NET, images, grey, weights, TRAINING,
            progress=lambda step, total, **figures: report("training", step, total, **figures),
        )  # fmt: skip
    cache = FeatureCache(folder / "feature_cache")
    say("2. extracting features, once")
    backbone = resolve_backbone(NET, str(weights))
    run = {"weights_file": str(weights.resolve()), "dataset": INLIERS}
    sets = open_splits(INLIERS)
    transform, _ = choose_transform(backbone, sets[0], image_size=SIZE)
    extract_sets(cache, backbone, sets, transform, run=run, progress=progress, say=say)
    selection = select(cache, backbone.slug, INLIERS)
    say(f"3. fitting {len(HEADS)} heads from the cache")
    for name in HEADS:
        fit_head(
            selection, name, DEMO_OPTIONS.get(name),
            progress=lambda step, total, name=name, **figures: report(f"training {name}", step, total, **figures),
            say=say,
        )  # fmt: skip
    say("4. scoring")
    return score_selection(selection, HEADS, OUTLIERS, progress=progress, say=say)


DEMO_OPTIONS = {"heat-gmm": {"epochs": 20, "batch_size": 64}}
