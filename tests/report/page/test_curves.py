"""Counts, rows and classes against naive loops."""

import math

import numpy as np
import pytest
from sklearn.metrics import auc, roc_auc_score

from featood.errors import DataError
from featood.report import hardest_rows, worst_classes
from featood.report.page.curves import THRESHOLDS, head_curves

RNG = np.random.default_rng(0)


def made(sets=3, n=3000):
    return {"id": RNG.normal(size=n), **{f"ood-{k}": RNG.normal(k, 1, n // 2) for k in range(1, sets)}}


@pytest.mark.parametrize("sets", [2, 5, 40])
def test_counts_at_the_thresholds_are_exact(sets):
    scores = made(sets, 400)
    curves = head_curves(scores, ["id"])
    assert len(curves.thresholds) <= THRESHOLDS and (np.diff(curves.thresholds) > 0).all()
    for name, values in scores.items():
        expected = [sum(value <= threshold for value in values) for threshold in curves.thresholds]
        assert curves.below[name].tolist() == expected
        assert curves.bins[name].sum() == len(values)
    accepted = curves.thresholds[curves.start]
    assert accepted == sorted(scores["id"])[math.ceil(0.95 * 400) - 1]


def test_curves_through_the_thresholds_have_the_area_of_all_rows():
    scores = made()
    curves = head_curves(scores, ["id"])
    for name in ("ood-1", "ood-2"):
        fpr = np.append(1, 1 - curves.below["id"] / 3000)
        tpr = np.append(1, 1 - curves.below[name] / 1500)
        both = np.concatenate([scores["id"], scores[name]])
        exact = roc_auc_score(np.repeat([0, 1], [3000, 1500]), both)
        assert auc(fpr, tpr) == pytest.approx(exact, abs=1e-3)


def test_shifted_sets_count_as_in_distribution():
    scores = made()
    curves = head_curves(scores, ["id", "ood-1"])
    accepted = curves.thresholds[curves.start]
    joined = np.concatenate([scores["id"], scores["ood-1"]])
    assert (joined <= accepted).mean() >= 0.95 > (joined < accepted).mean()


def test_correct_rows_are_counted():
    scores = made(2, 100)
    correct = RNG.integers(-1, 2, 100)
    curves = head_curves(scores, ["id"], {"id": correct})
    for k, threshold in enumerate(curves.thresholds):
        below = scores["id"] <= threshold
        assert curves.labelled[k] == sum(correct[below] >= 0) and curves.correct[k] == sum(
            correct[below] == 1
        )


def test_positions_tell_which_rows_are_flagged_at_every_threshold():
    scores = made(2, 500)
    curves = head_curves(scores, ["id"])
    for name, values in scores.items():
        positions = curves.positions(values)
        assert positions.dtype == np.uint8
        for k, threshold in enumerate(curves.thresholds):
            np.testing.assert_array_equal(positions > k, values > threshold, err_msg=name)


@pytest.mark.parametrize("values", [[0.0] * 5, [np.inf, -np.inf], [1.0], [1e308, -1e308], [1e150, 0.0]])
def test_unusual_scores_have_counts(values):
    curves = head_curves({"id": values, "ood": [np.inf, 0.0]}, ["id"])
    body = curves.as_json()
    assert all(np.isfinite(body["thresholds"])) and all(np.isfinite(body["edges"]))
    assert body["below"][0][-1] == len(values)
    assert curves.positions(np.array(values)).max() <= len(curves.thresholds)


def test_nan_is_refused():
    with pytest.raises(DataError, match="ood scores are NaN"):
        head_curves({"id": [1.0], "ood": [np.nan]}, ["id"])


def test_the_hardest_rows_are_the_highest_of_id_and_the_lowest_of_ood():
    scores = np.array([3.0, 1.0, 2.0, 3.0])
    assert hardest_rows(scores, True, 3).tolist() == [0, 3, 2]
    assert hardest_rows(scores, False, 2).tolist() == [1, 2]


def test_the_worst_classes_have_the_largest_shares():
    labels = np.array([4, 4, 7, 7, 7, -1, 9])
    wrong = np.array([1, 0, 1, 1, 1, 1, 0], bool)
    assert worst_classes(labels, wrong) == ([7, 4, 9], [3, 2, 1], [1.0, 0.5, 0.0])
    assert worst_classes(labels, wrong, 1) == ([7], [3], [1.0])
