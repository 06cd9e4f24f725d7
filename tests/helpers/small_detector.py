"""A detector of a small network, trained briefly on digits."""

import copy
import dataclasses

from featood.cache import FeatureCache
from featood.extractors.trainer import Architecture, TrainOptions
from featood.heads import create_head
from featood.pipeline.detectors import make_detector
from featood.pipeline.extraction import ImageSource, Network, extract_dataset
from featood.pipeline.train_plan import TrainPlan
from featood.pipeline.training import train_extractor


def small_detector(place, head="knn", **options):
    """Return the detector and its calibration set; network and cache are written below a folder."""
    plan = TrainPlan(
        model="cross-entropy", dataset="digits", architecture=Architecture("lenet"), image_size=28, limit=300,
        out=place / "net",
    )  # fmt: skip
    train_extractor(plan, TrainOptions(epochs=3, batch_size=32, lr=0.05))
    cache = FeatureCache(place / "cache")
    extract_dataset(cache, ImageSource("digits"), Network(str(place / "net")))
    fitted = create_head(head, **options).fit(cache["net/digits/train"])
    test = cache["net/digits/test"]
    return make_detector(fitted.calibrate(test, 0.9), test), test


def with_calibration(detector, **changes):
    """Return the detector with another calibration."""
    head = copy.copy(detector.head)
    changed = dataclasses.replace(detector.calibration, **changes)
    head.adopt(dataclasses.replace(head._fit, calibration=changed))
    return dataclasses.replace(detector, head=head)
