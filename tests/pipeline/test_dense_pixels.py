"""Pixels as rows, from images with masks to score maps, by the commands and in Python."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.scenes import CODE, NET, write_scenes
from PIL import Image
from torch.nn import functional

from featood.cache import open_cache
from featood.errors import DataError, Mismatch
from featood.heads import create_head
from featood.metrics.dense import IGNORED, OUTLIER, pixel_metrics
from featood.pipeline import dense_scoring
from featood.pipeline.dense_extraction import DenseOptions, extract_pixels
from featood.pipeline.dense_scoring import score_pixels
from featood.pipeline.extraction import Network
from featood.pipeline.selection import select

SIZE = (12, 18)


@pytest.fixture
def scenes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write_scenes(tmp_path, {"train": 10, "test": 3}, SIZE)


def extracted(scenes, cache="cache", network=CODE, splits=("train",), **how):
    cache = open_cache(cache, [CODE])
    options = DenseOptions(**{"dtype": "float32", **how})
    return extract_pixels(cache, str(scenes), splits, Network(network), options)


def masks(scenes, split):
    raw = [
        np.array(Image.open(path)).astype(int)
        for path in sorted((scenes / split / "masks").iterdir(), key=lambda path: path.name)
    ]
    return [np.select([mask == 254, mask == 255], [OUTLIER, IGNORED], mask) for mask in raw]


def test_rows_are_the_known_pixels_of_each_image(scenes):
    (every,) = extracted(scenes, "every", pixels=0)
    expected = [
        (f"train/images/{number}.png@{row},{column}", mask[row, column])
        for number, mask in enumerate(masks(scenes, "train"))
        for row, column in zip(*np.nonzero(mask >= 0), strict=True)
    ]
    assert list(every.ids[:]) == [name for name, _ in expected]
    assert every.labels[:].tolist() == [label for _, label in expected]
    assert every.main == "penultimate" and every.logits.shape[1] == 3
    made = every.feature()[:] @ every.classifier.weight.T + every.classifier.bias
    np.testing.assert_allclose(made, every.logits[:], rtol=1e-4, atol=1e-4)


def test_a_sample_is_some_of_these_rows(scenes):
    (every,) = extracted(scenes, "every", pixels=0)
    (some,) = extracted(scenes, "some", pixels=7, seed=3)
    assert len(some) == 70
    rows = {name: row for row, name in enumerate(every.ids[:])}
    chosen = [rows[name] for name in some.ids[:]]
    assert len(set(chosen)) == 70
    np.testing.assert_array_equal(some.feature()[:], every.feature()[:][chosen])
    np.testing.assert_array_equal(some.labels[:], every.labels[:][chosen])
    (other,) = extracted(scenes, "other", pixels=7, seed=4)
    assert set(other.ids[:]) != set(some.ids[:])
    assert some.fingerprint == every.fingerprint  # the draw does not change what a row is
    assert some.origin.data["pixels"] == 7 and some.origin.data["seed"] == 3
    with pytest.raises(Mismatch):
        extracted(scenes, "some", pixels=8, seed=3)


def test_maps_are_the_scores_of_all_pixels(scenes):
    (train,) = extracted(scenes, pixels=0)
    head = create_head("knn", k=3).fit(train)
    energy = create_head("energy").fit(train)
    selection = select(open_cache("cache", [CODE]))
    found = score_pixels(selection, {"knn": head, "energy": energy}, split="train")
    for label, one in (("knn", head), ("energy", energy)):
        known = np.concatenate(
            [scores[mask >= 0] for scores, mask in zip(found.maps[label], found.masks, strict=True)]
        )
        np.testing.assert_allclose(known, one.score(train), rtol=1e-4, atol=1e-5)
    found = score_pixels(selection, {"knn": head})
    for mask, expected in zip(found.masks, masks(scenes, "test"), strict=True):
        np.testing.assert_array_equal(mask, expected)
    (row,) = found.rows()
    assert row["auroc"] == pixel_metrics(found.maps["knn"], masks(scenes, "test"))["auroc"]
    assert row["auroc"] > 0.9


def test_patches_are_scored_on_their_grid_and_resized(scenes):
    (train,) = extracted(scenes, taps=("stem",), pixels=0, image_size=(8, 12))
    assert train.main == "patches" and train.logits is None
    names = [name.rpartition("@")[2] for name in train.ids[:]]
    assert max(int(name.split(",")[0]) for name in names) == 3  # a grid of 4 x 6
    head = create_head("knn", k=1, space="none", coreset=20).fit(train)
    found = score_pixels(select(open_cache("cache", [CODE])), {"knn": head}, split="train")
    last = [row for row, name in enumerate(train.ids[:]) if name.startswith("train/images/9.png@")]
    assert len(last) == 24
    grid = torch.from_numpy(head.score(train)[last].astype("f4")).view(1, 1, 4, 6)
    expected = functional.interpolate(grid, SIZE, mode="bilinear")[0, 0]
    np.testing.assert_allclose(found.maps["knn"][9], expected, rtol=1e-4, atol=1e-5)


def test_another_set_is_scored_at_the_size_of_its_masks(scenes, tmp_path):
    extracted(scenes)
    frames, size = tmp_path / "sets/road-anomaly/frames", (25, 31)
    for number in range(2):
        mask = np.zeros(size, np.uint8)
        mask[5:9, 6:20] = 2
        (frames / f"{number}.labels").mkdir(parents=True)
        Image.fromarray(mask).save(frames / f"{number}.labels/labels_semantic.png")
        Image.fromarray(np.repeat(120 * (mask[..., None] // 2) + 40, 3, 2)).save(frames / f"{number}.jpg")
    selection = select(open_cache("cache", [CODE]), data_dir=str(tmp_path / "sets"))
    found = score_pixels(selection, {"msp": create_head("msp")}, "road-anomaly")
    assert [scores.shape for scores in found.maps["msp"]] == [size, size]
    assert found.masked.images.name == "road-anomaly" and len(found.rows()) == 1


def test_the_commands(scenes, featood, tmp_path):
    code, out, err = featood(
        "dense", "extract", "--backbone", CODE, "--dataset", str(scenes), "--pixels", "40", "--name", "net"
    )
    assert code == 0, err
    assert "/train: 400 rows; penultimate 6; logits 3" in out
    assert "without a crop: resized to 12 x 18 x 3" in err
    for head in (["mahalanobis"], ["knn", "--k", "3"]):
        code, _, err = featood("fit", *head)
        assert code == 0, err
    words = ["--code", CODE, "--head", "msp", "--head", "mahalanobis", "--head", "knn", "--min-size", "2"]
    code, out, err = featood("dense", "score", *words, "--json", "a.json", "--pictures", "maps")
    assert code == 0, err
    assert "AU-PRO" in out and "mahalanobis" in out
    result = json.loads((tmp_path / "a.json").read_text())
    assert [row["head"] for row in result["rows"]] == ["msp", "mahalanobis", "knn"]
    assert (
        result["rows"][0]["image_auroc"] is None
        and result["min_size"] == 2
        and 0 <= result["rows"][2]["f1"] <= 1
    )
    files = sorted(path.name for path in (tmp_path / "maps/knn").iterdir())
    assert files == ["00000-0.png", "00001-1.png", "00002-2.png"]
    picture = np.array(Image.open(tmp_path / "maps/knn/00000-0.png"))
    assert picture.shape == (12, 3 * 18 + 8, 3)
    np.testing.assert_array_equal(
        picture[:, :18], np.array(Image.open(scenes / "test/images/0.png").convert("RGB"))
    )
    mask = masks(scenes, "test")[0]
    assert (picture[:, 22:40][mask == OUTLIER] == 255).all() and (
        picture[:, 22:40][mask == IGNORED] == 128
    ).all()


def test_mistakes_are_named(scenes, featood, monkeypatch):
    with pytest.raises(DataError, match="pixels of class 2, but the network has only 2 classes"):
        (scenes.parent / "two.py").write_text(NET.replace("Conv2d(6, 3, 1)", "Conv2d(6, 2, 1)"))
        extracted(scenes, network="python:two.py:build")
    extracted(scenes)
    code, _, err = featood("dense", "score", "--head", "msp", "--cache", "cache")
    assert code and "is run only if you name it: add --code" in err
    code, _, err = featood(
        "score", "--head", "msp", "--ood", "digits", "--split", "train", "--cache", "cache", "--code", CODE
    )
    assert code and "images are scored by featood dense score" in err
    code, _, err = featood(
        "dense", "extract", "--backbone", CODE, "--dataset", str(scenes), "--image-size", "8,"
    )
    assert code and "HEIGHT,WIDTH" in err
    selection, plan = select(open_cache("cache", [CODE])), dense_scoring.plan_dense
    monkeypatch.setattr(dense_scoring, "plan_dense", lambda *given: replace(plan(*given), window=5))
    with pytest.raises(Mismatch, match="no longer returns the maps of"):
        score_pixels(selection, {"msp": create_head("msp")})
    (scenes.parent / "net.py").write_text(NET.replace('"bilinear"', '"nearest"'))
    head = create_head("msp")
    with pytest.raises(Mismatch, match=r"code of .* has changed"):
        score_pixels(select(open_cache("cache", [CODE])), {"msp": head})


def test_sets_of_whole_images_have_no_pixels(featood, toy_images):
    assert (
        featood("extract", "--backbone", "cifar-resnet20", "--weights", "random", "--dataset", "toy")[0] == 0
    )
    code, _, err = featood("dense", "score", "--head", "msp")
    assert code and "are no pixels; extract them by featood dense extract" in err
