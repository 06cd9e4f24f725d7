"""Detectors: calibration, folders, the test of golden inputs."""

import copy
import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from small_detector import small_detector

from featood.cache import FeatureCache
from featood.cache.feature_set import FeatureSet
from featood.data import open_dataset
from featood.decisions import p_values, threshold
from featood.errors import CacheCorrupt, DataError, Mismatch, UsageError
from featood.heads import create_head
from featood.pipeline.detectors import Detector
from featood.pipeline.detectors.reference import choose_reference
from featood.sealed import seal, write_json


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a cache and a detector of digits, and the folder in which it was saved."""
    place = tmp_path_factory.mktemp("made")
    detector, _ = small_detector(place, k=5)
    cache = FeatureCache(place / "cache")
    return cache, detector, detector.save(place / "detector")


def test_the_calibration_has_the_threshold_of_the_scores(made):
    cache, detector, _ = made
    scores = detector.head.score(cache["net/digits/test"])
    assert detector.calibration.thresholds.tolist() == [threshold(scores, 0.1)]
    found = detector.calibration.decide(scores[:30] + 0.1)
    np.testing.assert_array_equal(found.out, scores[:30] + 0.1 > threshold(scores, 0.1))
    np.testing.assert_allclose(found.p_values, p_values(scores, scores[:30] + 0.1))
    record = detector.calibration.record
    assert record["set"] == "net/digits/test" and record["rows"] == len(scores)
    assert record["alarm_rate_low"] < 0.1 < record["alarm_rate_high"]


def test_by_class_each_class_has_its_rate():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 3000)
    logits = np.eye(2)[labels] * 10
    spread = np.where(labels == 0, 1.0, 5.0)
    rows = FeatureSet({"x": (spread * rng.normal(size=3000))[:, None]}, logits=logits, labels=labels)
    head = create_head("column", feature="x")
    found = head.calibrate(rows, by_class=True).calibration
    out = found.decide(rows.features["x"][:, 0], labels).out
    for label in range(2):
        assert out[labels == label].mean() == pytest.approx(0.05, abs=0.002)
    assert found.thresholds[1] == pytest.approx(5 * found.thresholds[0], rel=0.2)
    with pytest.raises(DataError, match="depend on the predicted class"):
        found.decide(np.zeros(3))


def test_outliers_in_the_set_are_left_out():
    rows = FeatureSet({"x": np.r_[np.arange(99.0), 1000.0][:, None]}, labels=np.r_[np.zeros(99, int), -1])
    head = create_head("column", feature="x").calibrate(rows, 0.99)
    assert head.calibration.thresholds.tolist() == [98.0]


def test_the_rows_of_the_fit_are_refused(made):
    cache, detector, _ = made
    with pytest.raises(UsageError, match=r"was fitted on net/digits/train.*--split"):
        detector.head.calibrate(cache["net/digits/train"])
    head = copy.copy(detector.head).calibrate(cache["net/digits/train"], force=True)
    assert head.calibration.record["rows"] > 0


def test_too_few_rows_are_refused_with_the_number_needed():
    rows = FeatureSet({"x": np.arange(10.0)[:, None]})
    with pytest.raises(DataError, match=r"10 calibration rows are too few .* of 5 %; 19 are needed"):
        create_head("column", feature="x").calibrate(rows)


def test_a_loaded_detector_decides_as_the_head_does_on_the_cache(made):
    cache, _, folder = made
    detector = Detector.load(folder)
    images = open_dataset("digits", "test")
    found = list(detector.predict(images.subset(range(150))))
    test = cache["net/digits/test"]
    scores = detector.head.score(test)
    np.testing.assert_allclose([one.score for one in found], scores[:150], rtol=1e-4)
    np.testing.assert_array_equal([one.out for one in found], scores[:150] > threshold(scores, 0.1))
    np.testing.assert_array_equal([one.predicted for one in found], test.logits[:150].argmax(1))
    assert [one.class_name for one in found[:5]] == [str(one.predicted) for one in found[:5]]
    assert found[0].id == images.ids[0]


def test_images_are_resized_and_cropped_once(made):
    detector = Detector.load(made[2], test=False)
    detector.network.transform = dataclasses.replace(detector.network.transform, resize=36)
    images = open_dataset("digits", "test").subset(range(8))
    alone = [detector(images.read(row)).score for row in range(8)]
    np.testing.assert_allclose([one.score for one in detector.predict(images)], alone, rtol=1e-4)


def test_a_detector_needs_nothing_but_its_folder(made, tmp_path, monkeypatch):
    cache, detector, folder = made
    moved = tmp_path / "moved"
    folder.rename(moved)
    hidden = cache.root.with_name("hidden")
    cache.root.rename(hidden)
    net = cache.root.with_name("net")
    net.rename(net.with_name("gone"))
    try:
        monkeypatch.setenv("FEATOOD_DATA", str(tmp_path))
        image = open_dataset("digits", "test").read(0)
        assert Detector.load(moved)(image).score == pytest.approx(detector(image).score)
    finally:
        moved.rename(folder)
        hidden.rename(cache.root)
        net.with_name("gone").rename(net)


def test_an_image_may_have_any_form(made, tmp_path):
    _, detector, _ = made
    image = open_dataset("digits", "test").read(3)
    Image.fromarray(image).save(tmp_path / "three.png")
    forms = [
        image,
        image[..., None],
        torch.from_numpy(image),
        torch.from_numpy(image)[None],
        Image.fromarray(image),
    ]
    forms += [Image.fromarray(image).convert("RGB"), np.stack([image] * 3, 2), tmp_path / "three.png"]
    found = [detector(form) for form in forms]
    assert found[0].score is not None and found[-1].id == str(tmp_path / "three.png")
    np.testing.assert_allclose([one.score for one in found], found[0].score, rtol=1e-3)
    for wrong in (image.astype(float), np.zeros((4, 4, 7), np.uint8), tmp_path / "none.png"):
        with pytest.raises(DataError):
            detector(wrong)


def test_unreadable_images_have_an_error(made, tmp_path):
    _, detector, _ = made
    from featood.data.images.image_set import ImageSet

    Image.fromarray(open_dataset("digits", "test").read(3)).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"no image")
    images = ImageSet(name="files", ids=("bad.png", "good.png"), root=tmp_path)
    bad, good = detector.predict(images)
    assert bad.score is None and bad.error and good.score is not None and good.id == "good.png"


# ---- golden inputs ------------------------------------------------------------------------------------


def changed(folder, tmp_path, **changes):
    """Load a detector, with changes to its network or head, without testing it."""
    detector = Detector.load(folder, test=False)
    for name, value in changes.items():
        setattr(detector.network, name, value)
    return detector


def test_another_resize_rule_is_noticed(made, tmp_path):
    detector = changed(made[2], tmp_path)
    detector.network.transform = dataclasses.replace(detector.network.transform, interpolation="nearest")
    with pytest.raises(Mismatch, match="the preprocessing makes other inputs"):
        detector.test()


def test_another_normalisation_is_noticed(made, tmp_path):
    detector = changed(made[2], tmp_path)
    detector.network.transform = dataclasses.replace(detector.network.transform, mean=(0.31,))
    with pytest.raises(Mismatch, match="the preprocessing makes other inputs"):
        detector.test()


def test_other_weights_of_the_same_shape_are_noticed(made, tmp_path):
    detector = changed(made[2], tmp_path)
    with torch.no_grad():
        next(detector.network.backbone.module.parameters()).add_(0.05)
    with pytest.raises(Mismatch, match=r"the network computes other values of .* for the same inputs"):
        detector.test()


def test_half_precision_is_noticed(made, tmp_path):
    detector = changed(made[2], tmp_path)
    forward = detector.network.forward
    forward.options = dataclasses.replace(forward.options, precision="bfloat16")
    with pytest.raises(Mismatch, match="weights, precision or library differ"):
        detector.test()


def test_another_head_is_noticed(made, tmp_path):
    detector = changed(made[2], tmp_path)
    other = create_head("knn", k=50).fit(made[0]["net/digits/train"]).calibrate(made[0]["net/digits/test"])
    with pytest.raises(Mismatch, match="the head computes other scores"):
        dataclasses.replace(detector, head=other).test()


def test_changed_libraries_are_named(made, tmp_path):
    detector = changed(made[2], tmp_path)
    detector.network.transform = dataclasses.replace(detector.network.transform, mean=(0.31,))
    before = {**detector.versions, "pillow": "1.0", "python": "3.0"}
    with pytest.raises(Mismatch, match=r"\(pillow 1\.0 then, [\d.]+ now\)"):
        dataclasses.replace(detector, versions=before).test()


@pytest.mark.parametrize(
    "name", ["head/calibration.safetensors", "golden.safetensors", "golden-0.png", "detector.json"]
)
def test_damaged_files_are_named(made, name):
    path = made[2] / name
    content = path.read_bytes()
    try:
        path.write_bytes(content[:40] + bytes([content[40] ^ 1]) + content[41:])
        with pytest.raises(CacheCorrupt, match="again"):
            Detector.load(made[2])
        path.unlink()
        with pytest.raises((CacheCorrupt, DataError)):
            Detector.load(made[2])
    finally:
        path.write_bytes(content)


def test_weights_in_the_folder_are_checked(made):
    path = made[2] / "network" / "model.safetensors"
    content = path.read_bytes()
    try:
        path.write_bytes(content[:-4] + b"\0\0\0\1")
        with pytest.raises(CacheCorrupt, match=r"network/model\.safetensors does not match its checksum"):
            Detector.load(made[2])
    finally:
        path.write_bytes(content)


def test_a_folder_is_not_overwritten(made):
    with pytest.raises(UsageError, match="exists"):
        made[1].save(made[2])
    with pytest.raises(DataError, match="contains no detector"):
        Detector.load(made[2] / "head")
    assert json.loads((made[2] / "detector.json").read_text())["head"] == "knn"


def test_reference_rows_are_calibration_rows_and_kept_in_the_folder(made):
    cache, detector, folder = made
    test = cache["net/digits/test"]
    ids = np.asarray(test.ids[:]).tolist()
    loaded = Detector.load(folder, test=False).reference
    for reference in (detector.reference, loaded):
        rows = [ids.index(name) for name in reference.ids]
        assert len(rows) == min(1000, len(test)) and rows == sorted(set(rows))
        np.testing.assert_array_equal(reference.features, np.asarray(test.feature()[:])[rows])
        np.testing.assert_array_equal(reference.scores, detector.calibration.scores[rows])
        np.testing.assert_array_equal(reference.classes, np.asarray(test.logits[:])[rows].argmax(1))
        assert reference.column == test.main


def test_rows_labelled_as_outliers_are_no_reference():
    rows = FeatureSet({"x": np.r_[np.arange(99.0), 1000.0][:, None]}, labels=np.r_[np.zeros(99, int), -1])
    calibration = create_head("column", feature="x").calibrate(rows).calibration
    assert choose_reference(calibration, rows).scores.tolist() == list(range(99))


def test_a_folder_without_reference_rows_is_read(made, tmp_path):
    _, detector, _ = made
    folder = dataclasses.replace(detector, reference=None).save(tmp_path / "before")
    body = json.loads((folder / "detector.json").read_text())
    del body["reference"], body["sha256"]
    write_json(folder / "detector.json", body)
    assert Detector.load(folder).reference is None


@pytest.mark.parametrize("name", ["golden.safetensors", "reference.safetensors"])
def test_a_record_that_leaves_out_a_file_is_refused(made, tmp_path, name):
    folder = tmp_path / "detector"
    shutil.copytree(made[2], folder)
    record = json.loads((folder / "detector.json").read_text())
    del record["sha256_of"][name], record["sha256"]
    (folder / "detector.json").write_text(json.dumps(seal(record)))
    with pytest.raises(CacheCorrupt, match=f"does not list {name}"):
        Detector.load(folder)


def test_the_content_of_a_file_is_an_image(made, tmp_path):
    Image.fromarray(open_dataset("digits", "test").read(3)).save(tmp_path / "three.png")
    content = (tmp_path / "three.png").read_bytes()
    assert made[1](content).score == made[1](tmp_path / "three.png").score
    with pytest.raises(DataError, match="the image cannot be read"):
        made[1](content[:60])
