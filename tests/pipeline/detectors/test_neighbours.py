"""Training rows of a detector."""

import dataclasses
import os

import numpy as np
import pytest

from featood.cache import FeatureCache
from featood.cache.feature_set import FeatureSet
from featood.data import open_dataset
from featood.errors import UsageError
from featood.extractors.backbones import RANDOM
from featood.heads import create_head
from featood.pipeline.detectors import Detector, make_detector
from featood.pipeline.detectors.neighbours import choose_training_rows
from featood.pipeline.extraction import ImageSource, Network, extract_dataset


def test_neighbours_are_those_of_a_loop_over_all_rows():
    rng = np.random.default_rng(0)
    train, rows = rng.normal(size=(60, 5)), rng.normal(size=(7, 5))
    labels = np.where(np.arange(60) % 7 == 0, -1, np.arange(60) % 3)
    names = np.array([f"{row}.png" for row in range(60)])
    kept = choose_training_rows(FeatureSet({"avg": train}, labels=labels, ids=names))
    found = kept.nearest(FeatureSet({"avg": rows}), 4, ("a", "b"))
    for row, near in zip(rows, found, strict=True):
        distances = [np.linalg.norm(row / np.linalg.norm(row) - one / np.linalg.norm(one)) for one in train]
        expected = np.argsort(distances)[:4]
        assert [one.id for one in near] == names[expected].tolist()
        np.testing.assert_allclose([one.distance for one in near], np.sort(distances)[:4], atol=2e-3)
        assert [one.class_name for one in near] == [
            "" if labels[at] < 0 else ("a", "b", "2")[labels[at]] for at in expected
        ]
    assert len(kept.nearest(FeatureSet({"avg": rows}), 100)[0]) == 60


def test_some_rows_are_drawn():
    rows = FeatureSet({"avg": np.eye(50)})
    kept = choose_training_rows(rows, 10, seed=1)
    assert len(set(kept.ids)) == 10 and kept.features.shape == (10, 50)
    assert (
        kept.ids == choose_training_rows(rows, 10, seed=1).ids != choose_training_rows(rows, 10, seed=2).ids
    )
    with pytest.raises(UsageError, match="no features"):
        choose_training_rows(FeatureSet(logits=np.eye(3)))


def test_a_detector_keeps_them(tmp_path):
    network = Network("lenet", RANDOM, image_size=28)
    cache = FeatureCache(tmp_path / "cache")
    (features,) = [one.features for one in extract_dataset(cache, ImageSource("digits", ("test",)), network)]
    head = create_head("msp")
    detector = make_detector(head.calibrate(features, 0.9), features, training=choose_training_rows(features))
    loaded = Detector.load(detector.save(tmp_path / "detector"))
    images = open_dataset("digits", "test")
    for row, one in enumerate(loaded.predict(images.subset(range(5)), neighbours=3)):
        assert one.neighbours[0].id == images.ids[row] and one.neighbours[0].distance < 0.01
        assert len(one.neighbours) == 3
    assert loaded(images.read(0), neighbours=1).neighbours[0].id == images.ids[0]
    with pytest.raises(UsageError, match="no training rows"):
        dataclasses.replace(loaded, training=None)(images.read(0), neighbours=1)


def test_published_weights_are_stored_if_their_licence_allows_it(tmp_path, monkeypatch, test_data):
    from featood.extractors.backbones import published
    from featood.pipeline.detectors import folder

    monkeypatch.setenv("FEATOOD_WEIGHTS", str(test_data / "weights"))
    monkeypatch.setenv("FEATOOD_DATA", str(test_data))
    name = "cifar-resnet20.akamaster-cifar10"
    cache = FeatureCache(tmp_path / "cache")
    images = open_dataset("cifar10", "test").subset(range(60))
    network = Network(name)
    monkeypatch.setattr(ImageSource, "open", lambda *_: [images])
    (features,) = [one.features for one in extract_dataset(cache, ImageSource("cifar10", ("test",)), network)]
    head = create_head("msp")
    detector = make_detector(head.calibrate(features, 0.9), features)
    for licence, stored in (("MIT", True), ("", False)):
        entry = dataclasses.replace(published.list_published()[name], licence=licence)
        monkeypatch.setattr(folder, "list_published", lambda entry=entry: {name: entry})
        place = detector.save(tmp_path / f"detector-{stored}")
        assert os.path.exists(place / "network.safetensors") is stored
        assert folder.stored_weights(detector.network)[1].endswith(
            "whose licence is MIT" if stored else "whose licence is not stated; they are found by that name"
        )
        monkeypatch.setenv("FEATOOD_WEIGHTS", str(tmp_path if stored else test_data / "weights"))
        loaded = Detector.load(place)
        np.testing.assert_allclose(
            [one.score for one in loaded.predict(images)], head.score(features), rtol=1e-4
        )
