"""Diagnoses of alarms, on features of Gaussian classes."""

import numpy as np
import pytest
from scipy import stats

from featood.pipeline.detectors.reference import Reference
from featood.pipeline.monitoring.diagnosis import FEWEST, Window, diagnose

SIZE, CLASSES = 12, 4
MEANS = np.random.default_rng(9).normal(0, 4, (CLASSES, SIZE))


def rows(count, seed, shares=None, shift=0.0):
    """Return features and classes of rows."""
    rng = np.random.default_rng(seed)
    classes = rng.choice(CLASSES, count, p=shares)
    return (MEANS[classes] + rng.normal(size=(count, SIZE)) + shift).astype(np.float32), classes


def scores_of(features):
    return np.sqrt(((features[:, None] - MEANS) ** 2).sum(2)).min(1)


def reference():
    features, classes = rows(800, 0)
    return Reference("avg", features, scores_of(features), classes, [f"r{row}" for row in range(800)])


THRESHOLD = np.quantile(reference().scores, 0.95)


def found(features, change="higher", names=("a", "b", "c", "d")):
    known, scores = reference(), scores_of(features)
    classes = ((features[:, None] - MEANS) ** 2).sum(2).argmin(1)
    ids = [f"n{row}" for row in range(len(features))]
    window = Window(ids, scores, np.zeros(len(ids)), scores > THRESHOLD, features, classes)
    return diagnose(known, known.scores > THRESHOLD, window, change, names)


def with_outliers(means, count=30):
    """Return 120 rows, and outliers around some means."""
    rng = np.random.default_rng(5)
    outliers = means[rng.integers(0, len(means), count)] + 0.5 * rng.normal(size=(count, SIZE))
    return np.concatenate([rows(120, 1)[0], outliers.astype(np.float32)])


def test_a_new_class():
    one = found(with_outliers(np.full((1, SIZE), 9.0)))
    assert one.kind == "new class" and one.clustered > 0.7 and one.moved < 0.1
    assert one.rows == 150 and 30 <= one.out <= 45
    assert {row["id"] for row in one.unusual} <= {f"n{row}" for row in range(120, 150)}
    assert len(one.unusual) == 10 and one.unusual[0]["out"]


def test_outliers_without_anything_in_common():
    many = found(with_outliers(np.random.default_rng(3).normal(0, 12, (1000, SIZE))))
    assert many.kind == "outliers" and many.clustered < 0.4 and many.moved < 0.25


def test_a_shift_of_all_rows():
    shifted = found(rows(150, 1, shift=0.8)[0])
    assert shifted.kind == "sensor shift" and shifted.moved > 0.5
    # all rows are flagged
    far = found(rows(150, 1, shift=20.0)[0])
    assert far.kind == "sensor shift" and far.moved is None and far.out == 150


def test_other_shares_of_the_classes():
    drift = found(rows(150, 1, [0.7, 0.1, 0.1, 0.1])[0])
    assert drift.kind == "harmless drift" and drift.classes_p < 0.01 <= drift.scores_p
    top = drift.classes[0]
    assert top["class"] == "a" and top["before"] == pytest.approx(0.25, abs=0.05) and top["now"] > 0.6
    assert found(rows(150, 1, [0.7, 0.1, 0.1, 0.1], 0.8)[0]).kind == "sensor shift"


def test_few_rows_are_not_compared():
    early = found(rows(FEWEST - 1, 1, shift=20.0)[0])
    assert early.kind == "too early" and early.rows == early.out == FEWEST - 1 and early.moved is None


def test_the_numbers_are_those_of_a_naive_loop():
    features = with_outliers(np.full((1, SIZE), 3.0))
    one, known, scores = found(features), reference(), scores_of(features)
    scale = known.features.std(0)
    everything = [*(features / scale), *(known.features / scale)]
    flagged = [row for row in range(len(features)) if scores[row] > THRESHOLD]
    nearest = []
    for row in flagged:
        distances = [np.linalg.norm(everything[row] - other) for other in everything]
        distances[row] = np.inf
        nearest.append(int(np.argmin(distances)))
    assert one.clustered == pytest.approx(np.mean([other in flagged for other in nearest]))
    classes = ((features[:, None] - MEANS) ** 2).sum(2).argmin(1)
    table = [[(part == number).sum() for number in range(CLASSES)] for part in (known.classes, classes)]
    assert one.classes_p == pytest.approx(stats.chi2_contingency(table).pvalue)
    ranks = [], []
    for number in range(CLASSES):
        inside = known.scores[known.classes == number], scores[classes == number]
        every = np.concatenate(inside)
        for part, values in zip(ranks, inside, strict=True):
            part += [(np.sum(every >= value) + 1) / (len(every) + 1) for value in values]
    assert one.scores_p == pytest.approx(stats.ks_2samp(*ranks, method="asymp").pvalue)
    row = one.unusual[0]
    number = int(row["id"][1:])
    assert row["score"] == scores.max() and number == scores.argmax()
    near = np.linalg.norm((known.features - features[number]) / scale, axis=1).argmin()
    assert row["neighbour"] == f"r{near}" and row["neighbour_class"] == "abcd"[known.classes[near]]


@pytest.mark.parametrize("change", ["higher", "lower", "wider", "narrower"])
def test_the_most_unusual_rows_are_those_of_the_change(change):
    features = rows(100, 2)[0]
    scores = scores_of(features)
    distance = scores - np.median(reference().scores)
    order = {"higher": -scores, "lower": scores, "wider": -np.abs(distance), "narrower": np.abs(distance)}[
        change
    ]
    shown = [row["score"] for row in found(features, change).unusual]
    np.testing.assert_allclose(shown, scores[np.argsort(order)[:10]])


def test_a_network_that_does_not_classify():
    features = with_outliers(np.full((1, SIZE), 9.0))
    known, scores = reference(), scores_of(features)
    window = Window([str(row) for row in range(150)], scores, scores, scores > THRESHOLD, features, None)
    unnamed = Reference("avg", known.features, known.scores, None, ())
    one = diagnose(unnamed, known.scores > THRESHOLD, window, "higher")
    assert one.kind == "new class" and one.classes_p is None and one.scores_p is None and not one.classes
    assert one.unusual[0]["class"] == "" and one.unusual[0]["neighbour"].isdigit()
