"""Heads that decide: calibrate, predict, and the calibration on disk."""

import copy
import dataclasses
import json

import numpy as np
import pytest

import featood
from featood.cache.feature_set import FeatureSet
from featood.decisions import p_values, threshold
from featood.errors import CacheCorrupt, DataError, Mismatch, NotFitted, UsageError
from featood.heads import create_head, load_head
from featood.sealed import seal


def rows(seed, count=300, shift=0.0):
    return (np.random.default_rng(seed).normal(size=(count, 4)) + shift).astype("f4")


@pytest.fixture
def head():
    return create_head("knn", k=3).fit(rows(0))


def test_a_head_decides_on_arrays_as_the_functions_do(head):
    held_out, new = rows(1), rows(2, 50, 1.5)
    head.calibrate(held_out, tpr=0.9)
    found, scores = head.predict(new), head.score(new)
    reference = head.score(held_out)
    np.testing.assert_array_equal(found.scores, scores)
    np.testing.assert_array_equal(found.out, scores > threshold(reference, 0.1))
    np.testing.assert_allclose(found.p_values, p_values(reference, scores))
    assert 0.1 < found.out.mean() <= 1 and head.calibration.record["alarm_rate"] == 0.1


def test_without_a_calibration_nothing_is_decided(head):
    with pytest.raises(NotFitted, match="knn has no threshold; calibrate it"):
        head.predict(rows(2))
    head.calibrate(rows(1)).fit(rows(3))
    assert head.calibration is None  # a new fit has other scores
    with pytest.raises(NotFitted, match="fit it first"):
        create_head("knn").calibrate(rows(1))
    with pytest.raises(DataError, match="10 calibration rows are too few"):
        head.calibrate(rows(1, 10))
    with pytest.raises(UsageError, match="must be between 0 and 1"):
        head.calibrate(rows(1), tpr=1.2)


def test_a_head_without_fit_is_calibrated_too(tmp_path):
    logits = np.random.default_rng(0).normal(size=(100, 5))
    head = create_head("energy").calibrate(FeatureSet(logits=logits))
    again = load_head(head.save(tmp_path / "energy"))
    np.testing.assert_array_equal(again.calibration.scores, head.calibration.scores)
    assert (
        again.predict(FeatureSet(logits=logits)).out.sum() == 4
    )  # 5 % of 101 ranks, and one for the new row


def test_the_calibration_is_saved_with_the_head(head, tmp_path):
    head.calibrate(rows(1), tpr=0.9, confidence=0.9)
    saved = head.saved
    folder = head.save(tmp_path / "head")
    again = featood.load_head(folder)
    for name in ("scores", "thresholds"):
        np.testing.assert_array_equal(
            getattr(again.calibration, name), getattr(head.calibration, name), strict=True
        )
    assert again.calibration.classes is None and again.calibration.record == head.calibration.record
    new = rows(2, 20)
    np.testing.assert_array_equal(again.predict(new).p_values, head.predict(new).p_values)
    assert "Threshold: " in (folder / "README.md").read_text() and saved is None
    # the scores stay those of the fit, so results of it still belong to it
    bare = create_head("knn", k=3).fit(rows(0))
    bare.annotate(fit_seconds=head.record.fit_seconds)
    bare.save(tmp_path / "bare")
    assert bare.saved.record_sha256 == head.saved.record_sha256
    again.save(tmp_path / "copy")
    assert load_head(tmp_path / "copy").calibration.record == head.calibration.record


def test_a_damaged_calibration_is_refused(head, tmp_path):
    folder = head.calibrate(rows(1)).save(tmp_path / "head")
    path, content = folder / "calibration.safetensors", (folder / "calibration.safetensors").read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(CacheCorrupt, match="calibrate the head again"):
        load_head(folder)
    path.unlink()
    with pytest.raises(CacheCorrupt, match="damaged"):
        load_head(folder)
    path.write_bytes(content)
    body = json.loads((folder / "head.json").read_text())
    del body["sha256"]
    body["calibration"]["rows"] = "many"
    (folder / "head.json").write_text(json.dumps(seal(body)))
    with pytest.raises(CacheCorrupt, match="rows"):
        load_head(folder)


def test_probes_notice_another_head_and_another_encoder(head):
    held_out = rows(1)
    probes = head.calibrate(held_out).calibration.probes
    assert list(probes.ids) == [str(row) for row in range(8)]
    probes.check_head(head)
    other = create_head("knn", k=3).fit(rows(5))
    with pytest.raises(Mismatch, match="computes other scores of the same features"):
        probes.check_head(other)
    probes.check_encoder(FeatureSet({"features": held_out[:8] * 1.001}))
    with pytest.raises(Mismatch, match=r"the encoder has changed: features of the probe . differs by .* %"):
        probes.check_encoder(FeatureSet({"features": held_out[:8][::-1].copy()}))
    with pytest.raises(Mismatch, match="the encoder has changed"):
        probes.check_encoder(FeatureSet({"features": np.full((8, 4), np.nan)}))
    with pytest.raises(DataError, match=r"has 7 rows; the probes are 8 inputs: 0, 1, 2"):
        probes.check_encoder(FeatureSet({"features": held_out[:7]}))
    with pytest.raises(DataError, match="has no 4 values of features"):
        probes.check_encoder(FeatureSet({"features": held_out[:8, :3]}))


def test_outliers_in_the_set_are_neither_calibration_rows_nor_probes(head):
    labels = np.r_[-1, np.zeros(99, int)]
    held_out = FeatureSet({"features": np.r_[rows(1, 1, 100), rows(1, 99)]}, labels=labels)
    found = head.calibrate(held_out).calibration
    assert len(found.scores) == 99 and found.probes.ids[0] == "1" and found.scores.max() < 10
    found.probes.check_head(head)


def test_a_copy_of_a_head_keeps_its_own_calibration(head):
    head.calibrate(rows(1), 0.9)
    other = copy.copy(head).calibrate(rows(1), 0.5)
    assert head.calibration.record["alarm_rate"] == 0.1 and other.calibration.record["alarm_rate"] == 0.5
    assert copy.deepcopy(head).calibration.thresholds == head.calibration.thresholds
    assert dataclasses.replace(head, k=5).calibration is None
