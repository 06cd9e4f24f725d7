import math

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, log_loss

from featood.errors import DataError, UsageError
from featood.metrics import (
    accuracy,
    brier,
    classification_metrics,
    expected_calibration_error,
    negative_log_likelihood,
    reliability_curve,
)


@pytest.fixture
def batch():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 5, 300)
    logits = rng.normal(0, 2, (300, 5)) + 2 * np.eye(5)[labels]
    return logits.astype(np.float32), labels


def softmax(row):
    weights = [math.exp(value - max(row)) for value in row]
    return [weight / math.fsum(weights) for weight in weights]


def naive_bins(logits, labels, bins):
    """Return the rows of each bin (lo, hi] as (confidence, correct)."""
    filled = [[] for _ in range(bins)]
    for row, label in zip(logits.astype(float).tolist(), labels, strict=True):
        p = softmax(row)
        b = next(b for b in range(bins) if p[np.argmax(row)] <= (b + 1) / bins or b == bins - 1)
        filled[b].append((max(p), float(np.argmax(row) == label)))
    return filled


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_ece_and_reliability_curve_against_a_loop_over_bins(batch, bins):
    filled = naive_bins(*batch, bins)
    curve = reliability_curve(*batch, bins)
    ece = 0.0
    for rows, confidence, hits, count in zip(filled, *curve, strict=True):
        assert count == len(rows)
        if not rows:
            assert np.isnan(confidence) and np.isnan(hits)
            continue
        mean_confidence, mean_accuracy = np.mean(rows, axis=0)
        assert (confidence, hits) == pytest.approx((mean_confidence, mean_accuracy))
        ece += len(rows) / 300 * abs(mean_confidence - mean_accuracy)
    assert expected_calibration_error(*batch, bins) == pytest.approx(ece, abs=1e-12)


def test_a_confidence_on_an_edge_belongs_to_the_bin_below():
    # two equal logits: confidence is exactly 1/2, the edge between the bins
    curve = reliability_curve([[0.0, 0.0]], [0], bins=2)
    assert curve.rows.tolist() == [1, 0]
    assert reliability_curve([[800.0, 0.0]], [0], bins=2).rows.tolist() == [0, 1]


def test_accuracy_and_nll_against_scikit_learn(batch):
    logits, labels = batch
    probabilities = np.array([softmax(row) for row in logits.astype(float).tolist()])
    assert accuracy(logits, labels) == accuracy_score(labels, logits.argmax(1))
    expected = log_loss(labels, probabilities, labels=range(5))
    assert negative_log_likelihood(logits, labels) == pytest.approx(expected)


def test_brier_is_summed_over_classes_and_not_halved(batch):
    logits, labels = batch
    expected = np.mean(
        [
            sum((p - (c == label)) ** 2 for c, p in enumerate(softmax(row)))
            for row, label in zip(logits.astype(float).tolist(), labels, strict=True)
        ]
    )
    assert brier(logits, labels) == pytest.approx(expected, abs=1e-12)
    assert brier([[1000.0, 0.0]], [1]) == 2


def test_extreme_logits_are_exact():
    logits = np.array([[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0]])
    assert negative_log_likelihood(logits, [1, 1]) == 1e4
    assert accuracy(logits, [1, 1]) == 0.5
    # in float16, the spacing at 60000 is 32, so 59980 is stored as 59968
    assert negative_log_likelihood(np.array([[60000, 59980]], np.float16), [1]) == pytest.approx(32, rel=1e-6)


def test_classification_metrics_agree_with_the_single_functions(batch, monkeypatch):
    expected = {
        "accuracy": accuracy(*batch),
        "ece": expected_calibration_error(*batch),
        "nll": negative_log_likelihood(*batch),
        "brier": brier(*batch),
    }
    assert classification_metrics(*batch) == expected
    monkeypatch.setattr("featood.metrics.classification._CELLS", 7)  # blocks of one row
    assert classification_metrics(*batch) == pytest.approx(expected, rel=1e-12)


def test_rows_without_a_label_are_left_out(batch):
    logits, labels = batch
    hidden = np.where(np.arange(300) % 3 == 0, -1, labels)
    known = hidden >= 0
    assert classification_metrics(logits, hidden) == classification_metrics(logits[known], labels[known])


def test_columns_can_have_any_class_numbers(batch):
    logits, labels = batch
    numbers = np.array([3, 8, 250_000, 900_000, 10**9])
    named = np.where(np.arange(300) % 7 == 0, -1, numbers[labels])
    plain = classification_metrics(logits, np.where(named < 0, -1, labels))
    assert classification_metrics(logits, named, classes=numbers) == plain
    other = np.concatenate([numbers[labels], [12]])  # a class without a column
    found = classification_metrics(np.concatenate([logits, logits[:1]]), other, classes=numbers)
    assert found["accuracy"] == pytest.approx(accuracy(logits, labels) * 300 / 301)
    p = np.array(softmax(logits[0].astype(float).tolist()))
    assert found["brier"] == pytest.approx((brier(logits, labels) * 300 + 1 + (p**2).sum()) / 301)
    assert found["nll"] > 1e30
    with pytest.raises(DataError, match="4 class numbers were given for logits of 5 classes"):
        classification_metrics(logits, labels, classes=numbers[:4])


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.zeros((3, 2)), [0, 1], "logits"),
        (np.zeros(3), [0, 1, 0], "logits"),
        (np.zeros((2, 2)), [-1, -1], "no row has a label"),
        (np.zeros((0, 2)), np.zeros(0, int), "no row has a label"),
        (np.zeros((2, 2)), [1, 2], "label 2 is too large for 2 classes"),
        (np.zeros((2, 2)), [0.0, 1.0], "one integer per row"),
        (np.array([[0.0, np.nan]]), [0], "NaN"),
        (np.array([[0.0, np.inf]]), [0], "NaN or infinity"),
    ],
)
def test_invalid_input_is_refused(logits, labels, message):
    for metric in (accuracy, classification_metrics, reliability_curve):
        with pytest.raises(DataError, match=message):
            metric(logits, labels)


def test_invalid_options_are_refused():
    with pytest.raises(UsageError, match="bins"):
        expected_calibration_error([[0.0, 1.0]], [0], bins=0)
