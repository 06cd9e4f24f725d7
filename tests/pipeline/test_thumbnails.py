"""Pictures of rows are read again from the images that were extracted."""

import io

import numpy as np
import pytest
from PIL import Image

from featood.cache import open_cache
from featood.pipeline.thumbnails import SIDE, thumbnails

EXTRACT = ("extract", "--backbone", "cifar-resnet20", "--weights", "random", "--dataset", "toy")


@pytest.fixture
def features(featood, toy_images, tmp_path):
    code, _, err = featood(*EXTRACT)
    assert code == 0, err
    cache = open_cache(tmp_path / "cache")
    return cache[next(entry.key for entry in cache.entries() if entry.split == "test")]


def pixels(picture):
    return np.asarray(Image.open(io.BytesIO(picture)), float)


def test_pictures_are_those_of_the_rows(features, toy_images):
    images = np.load(toy_images / "toy" / "test.npz")["images"]
    found = thumbnails(features, [7, 3])
    assert list(found) == [7, 3]
    for row, picture in found.items():
        assert pixels(picture).shape == (16, 16, 3)
        # WebP loses details of noise
        others = [np.abs(pixels(picture) - image).mean() for image in images.astype(float)]
        assert int(np.argmin(others)) == row


def test_changed_or_missing_images_are_not_shown(features, toy_images):
    path = toy_images / "toy" / "test.npz"
    arrays = dict(np.load(path))
    np.savez(path, images=arrays["images"][::-1], labels=arrays["labels"])
    assert thumbnails(features, [0]) == {}
    path.unlink()
    assert thumbnails(features, [0]) == {}


def test_sets_without_images_have_no_pictures(features):
    import dataclasses

    assert thumbnails(dataclasses.replace(features, origin=None), [0]) == {}
    assert thumbnails(dataclasses.replace(features, ids=None), [0]) == {}


def test_large_images_become_small(featood, tmp_path, monkeypatch):
    folder = tmp_path / "data" / "big" / "test" / "one"
    folder.mkdir(parents=True)
    for number in range(2):
        noise = np.random.default_rng(number).integers(0, 255, (120, 300), np.uint8)
        Image.fromarray(noise).save(folder / f"{number}.png")
    monkeypatch.setenv("FEATOOD_DATA", str(tmp_path / "data"))
    words = ("--backbone", "cifar-resnet20", "--weights", "random", "--dataset", "big", "--split", "test")
    assert featood("extract", *words)[0] == 0
    cache = open_cache(tmp_path / "cache")
    (features,) = (cache[entry.key] for entry in cache.entries())
    found = thumbnails(features, [1])
    assert pixels(found[1]).shape == (round(SIDE * 120 / 300), SIDE, 3)


def test_the_command_embeds_them_unless_told_otherwise(features, featood, tmp_path):
    for words, shown in (((), True), (("--no-thumbnails",), False)):
        page = tmp_path / "r.html"
        code, _, err = featood("report", "--head", "msp", "--ood", "odd", "--no-umap", "--out", page, *words)
        assert code == 0, err
        from pages import data_of

        assert any(picture for _, picture in data_of(page.read_text())["rows"]) is shown
