from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.metrics import roc_curve as sklearn_roc_curve

from featood.errors import DataError, UsageError
from featood.metrics import (
    METRICS,
    aupr_in,
    aupr_out,
    auroc,
    autc,
    detection_error,
    detection_metrics,
    fpr_at_tpr_id,
    fpr_at_tpr_ood,
    roc_curve,
)

sizes = st.integers(1, 40)
tied = arrays(np.float64, sizes, elements=st.sampled_from([-2.0, -0.0, 0.0, 0.5, 1.0, 3.0]))
spread = arrays(np.float64, sizes, elements=st.floats(-1e6, 1e6, width=32))
infinite = arrays(np.float64, sizes, elements=st.sampled_from([-np.inf, -1.0, 0.0, 2.0, np.inf]))
scores = tied | spread | infinite


def stacked(id_scores, ood_scores):
    """Return labels and scores for scikit-learn, with infinities replaced by finite extreme values."""
    labels = np.r_[np.zeros(len(id_scores)), np.ones(len(ood_scores))]
    return labels, np.clip(np.r_[id_scores, ood_scores], -1e9, 1e9)


def naive_fpr_at_tpr_id(id_scores, ood_scores, tpr):
    for t in sorted([*id_scores, *ood_scores]):
        if sum(s <= t for s in id_scores) / len(id_scores) >= tpr:
            return sum(s <= t for s in ood_scores) / len(ood_scores)


def naive_fpr_at_tpr_ood(id_scores, ood_scores, tpr):
    for t in sorted([*id_scores, *ood_scores], reverse=True):
        if sum(s >= t for s in ood_scores) / len(ood_scores) >= tpr:
            return sum(s >= t for s in id_scores) / len(id_scores)


def naive_detection_error(id_scores, ood_scores):
    return min(
        (np.mean([s > t for s in id_scores]) + np.mean([s <= t for s in ood_scores])) / 2
        for t in [-np.inf, *id_scores, *ood_scores, np.inf]
    )


def naive_autc(id_scores, ood_scores):
    """Sum the rectangles between neighbouring scores as thresholds."""
    pool = [s for s in [*id_scores, *ood_scores] if np.isfinite(s)]
    low, high = min(pool, default=0), max(pool, default=0)
    if low == high:
        return 0.5
    cuts, area = sorted(set(pool)), 0.0
    for left, right in pairwise(cuts):
        middle = (left + right) / 2
        fpr = np.mean([s > middle for s in id_scores])
        fnr = np.mean([s <= middle for s in ood_scores])
        area += (right - left) / (high - low) * (fpr + fnr) / 2
    return area


@given(scores, scores)
def test_auroc_and_aupr_against_scikit_learn(id_scores, ood_scores):
    labels, pooled = stacked(id_scores, ood_scores)
    assert auroc(id_scores, ood_scores) == pytest.approx(roc_auc_score(labels, pooled), abs=1e-12)
    expected_out = average_precision_score(labels, pooled)
    expected_in = average_precision_score(1 - labels, -pooled)
    assert aupr_out(id_scores, ood_scores) == pytest.approx(expected_out, abs=1e-12)
    assert aupr_in(id_scores, ood_scores) == pytest.approx(expected_in, abs=1e-12)


@given(scores, scores)
def test_auroc_is_the_exact_share_of_ordered_pairs(id_scores, ood_scores):
    halves = sum(2 * int(o > i) + int(o == i) for i in id_scores for o in ood_scores)
    assert auroc(id_scores, ood_scores) == halves / (2 * len(id_scores) * len(ood_scores))


@given(scores, scores, st.sampled_from([0.05, 0.5, 0.8, 0.95, 1.0]))
def test_both_kinds_of_fpr_against_a_search_over_thresholds(id_scores, ood_scores, tpr):
    assert fpr_at_tpr_id(id_scores, ood_scores, tpr) == naive_fpr_at_tpr_id(id_scores, ood_scores, tpr)
    assert fpr_at_tpr_ood(id_scores, ood_scores, tpr) == naive_fpr_at_tpr_ood(id_scores, ood_scores, tpr)


@given(scores, scores, arrays(np.float64, 6, elements=st.floats(1e-6, 1.0)))
def test_fpr_increases_with_tpr(id_scores, ood_scores, tprs):
    for metric in (fpr_at_tpr_id, fpr_at_tpr_ood):
        found = [metric(id_scores, ood_scores, tpr) for tpr in sorted(tprs)]
        assert found == sorted(found)
        assert found[-1] <= metric(id_scores, ood_scores, 1.0)


@given(scores, scores)
def test_detection_error_is_the_smallest_over_thresholds(id_scores, ood_scores):
    expected = naive_detection_error(id_scores, ood_scores)
    assert detection_error(id_scores, ood_scores) == pytest.approx(expected, abs=1e-12)


@given(scores, scores)
def test_autc_is_the_area_under_both_steps(id_scores, ood_scores):
    assert autc(id_scores, ood_scores) == pytest.approx(naive_autc(id_scores, ood_scores), abs=1e-9)


@given(scores, scores)
def test_the_roc_curve_contains_the_points_of_scikit_learn(id_scores, ood_scores):
    labels, pooled = stacked(id_scores, ood_scores)
    fpr, tpr, _ = sklearn_roc_curve(labels, pooled, drop_intermediate=False)
    ours = roc_curve(id_scores, ood_scores)
    np.testing.assert_allclose(ours[0], fpr, atol=1e-12)
    np.testing.assert_allclose(ours[1], tpr, atol=1e-12)


@given(scores, scores)
def test_detection_metrics_agree_with_the_single_functions(id_scores, ood_scores):
    single = {
        "auroc": auroc, "aupr_in": aupr_in, "aupr_out": aupr_out, "fpr95": fpr_at_tpr_id,
        "fpr95_ood": fpr_at_tpr_ood, "detection_error": detection_error, "autc": autc,
    }  # fmt: skip
    metrics = detection_metrics(id_scores, ood_scores)
    assert list(metrics) == list(METRICS) == list(single)
    assert metrics == {name: metric(id_scores, ood_scores) for name, metric in single.items()}


def test_metrics_by_hand():
    id_scores, ood_scores = np.arange(20.0), np.array([18.0, 18.5, 30.0, 40.0])
    metrics = detection_metrics(id_scores, ood_scores)
    # 19 of 20 ID scores and 1 of 4 OOD scores are <= 18
    assert metrics["fpr95"] == 0.25
    # all 4 OOD scores and 2 of 20 ID scores are >= 18
    assert metrics["fpr95_ood"] == 0.1
    # pairs in the right order: 18 is above 18 of 20 with one tie, 18.5 is above 19, the others above all
    assert metrics["auroc"] == (18.5 + 19 + 20 + 20) / 80
    # threshold 17: 2 of 20 ID rows are rejected, no OOD row is accepted
    assert metrics["detection_error"] == pytest.approx(0.05)
    assert metrics["autc"] == pytest.approx((9.5 / 40 + 1 - 26.625 / 40) / 2)


@pytest.mark.parametrize("n", [20, 40, 100, 1000, 10_000])
def test_exactly_95_percent_is_sufficient_despite_rounding(n):
    # the next larger threshold would also accept the OOD score
    id_scores = np.r_[np.zeros(n * 95 // 100), np.full(n * 5 // 100, 2.0)]
    assert fpr_at_tpr_id(id_scores, [1.0]) == 0
    assert fpr_at_tpr_ood([1.0], -id_scores + 2) == 0


def test_constant_scores():
    metrics = detection_metrics(np.zeros(30), np.zeros(10))
    assert metrics == {
        "auroc": 0.5, "aupr_in": 0.75, "aupr_out": 0.25, "fpr95": 1, "fpr95_ood": 1,
        "detection_error": 0.5, "autc": 0.5,
    }  # fmt: skip


@pytest.mark.parametrize(("ood", "expected"), [(1.0, 1.0), (0.0, 0.5), (-1.0, 0.0)])
def test_one_row_on_each_side(ood, expected):
    assert auroc([0.0], [ood]) == expected


def test_perfect_separation_with_infinities():
    metrics = detection_metrics([-np.inf, 0.0], [1.0, np.inf])
    assert metrics == {
        "auroc": 1, "aupr_in": 1, "aupr_out": 1, "fpr95": 0, "fpr95_ood": 0, "detection_error": 0, "autc": 0,
    }  # fmt: skip


@pytest.mark.parametrize("scale", [5e-324, 1e-300, 1e300, 1.7e308])
def test_autc_at_the_limits_of_float64(scale):
    assert autc([-scale, 0], [0, scale]) == pytest.approx(0.25)


def test_any_real_dtype_and_torch_tensors_are_accepted():
    id_scores, ood_scores = [0, 2, 4], [3, 5]
    expected = detection_metrics(id_scores, ood_scores)
    for dtype in ("float16", "float32", ">f8", "int64", "uint8"):
        assert detection_metrics(np.array(id_scores, dtype), np.array(ood_scores, dtype)) == expected
    assert detection_metrics(torch.tensor(id_scores), torch.tensor(ood_scores).float()) == expected


@pytest.mark.parametrize("metric", [detection_metrics, roc_curve, auroc, autc])
@pytest.mark.parametrize(
    ("id_scores", "ood_scores", "message"),
    [
        ([0.0, np.nan], [1.0], "1 of 2 ID scores are NaN"),
        ([0.0], [np.nan, np.nan, 1.0], "2 of 3 OOD scores are NaN"),
        ([], [1.0], "no ID scores"),
        ([0.0], [], "no OOD scores"),
        ([[0.0]], [1.0], "one per row"),
        (["a"], [1.0], "real numbers"),
        ([1 + 2j], [1.0], "real numbers"),
        (torch.zeros(2, requires_grad=True), [1.0], "real numbers"),
    ],
)
def test_scores_that_cannot_be_ordered_are_refused(metric, id_scores, ood_scores, message):
    with pytest.raises(DataError, match=message):
        metric(id_scores, ood_scores)


@pytest.mark.parametrize("tpr", [0, -0.1, 1.01, np.nan])
def test_a_tpr_outside_its_range_is_refused(tpr):
    with pytest.raises(UsageError, match="tpr"):
        fpr_at_tpr_id([0.0], [1.0], tpr)
