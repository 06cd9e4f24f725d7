"""Decisions on batches of images."""

import numpy as np
import pytest
from scipy import stats

from featood.cache.feature_set import FeatureSet
from featood.decisions import false_discovery_bound, p_values
from featood.errors import UsageError
from featood.heads import create_head
from featood.pipeline.detectors.batch import flag_discoveries
from featood.pipeline.detectors.detector import Prediction


def batch(calibration, rng):
    scores = np.concatenate([rng.normal(size=60), rng.normal(5, 1, 20)])
    found = [
        Prediction(str(row), s, p, False)
        for row, (s, p) in enumerate(zip(scores, p_values(calibration, scores), strict=True))
    ]
    return [*found[:40], Prediction("broken", None, error="cannot be read"), *found[40:]]


def calibration_of(scores, logits=None, **how):
    rows = FeatureSet({"score": scores[:, None]}, logits=logits)
    return create_head("column", feature="score").calibrate(rows, **how).calibration


def test_a_batch_is_decided_by_the_step_up_procedure():
    rng = np.random.default_rng(0)
    calibration = calibration_of(rng.normal(size=500))
    predictions = batch(calibration.scores, rng)
    found, bound = flag_discoveries(calibration, predictions, 0.2)
    p = np.array([one.p_value for one in predictions if not one.error])
    expected = stats.false_discovery_control(p) <= 0.2
    assert [one.out for one in found if not one.error] == expected.tolist() and expected.sum() >= 15
    assert found[40] == predictions[40] and [one.id for one in found] == [one.id for one in predictions]
    assert bound == false_discovery_bound(p, expected, 500) < expected.sum()


def test_nothing_to_decide_and_thresholds_by_class():
    calibration = calibration_of(np.arange(40.0))
    assert flag_discoveries(calibration, [], 0.1) == ([], 0)
    by_class = calibration_of(np.arange(40.0), logits=np.tile(np.eye(2), (20, 1)), by_class=True)
    with pytest.raises(UsageError, match="thresholds by class"):
        flag_discoveries(by_class, [], 0.1)
