import csv
import dataclasses
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score, roc_auc_score

from featood.cache.feature_set import FeatureSet
from featood.errors import DataError, UsageError
from featood.heads import ask, create_head
from featood.heads.distances.mahalanobis import Mahalanobis
from featood.metrics import (
    METRICS,
    auroc,
    auroc_by_class,
    auroc_macro,
    aurra,
    cauroc,
    ccr_at_fpr,
    macro_f1_open_set,
    open_set_curve,
    open_set_metrics,
    oscr,
)
from featood.pipeline.scoring import score
from featood.report import results_table, write_csv, write_report
from featood.report.rows import mean_rows
from featood.testing import synthetic_sets

SHOWN = ("head", "ood", "split", "n_id", "n_ood", *METRICS)
scores = st.sampled_from([-1.5, 0.0, 0.25, 1.0, 4.0]) | st.floats(-9, 9, width=32)
known_rows = st.lists(st.tuples(scores, st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=30)
unknown_rows = st.lists(st.tuples(scores, st.integers(0, 6)), min_size=1, max_size=30)


def arguments(known, unknown):
    """Return the scores and predictions of both sides, and labels."""
    id_scores, id_classes, labels = map(np.array, zip(*known, strict=True))
    ood_scores, ood_classes = map(np.array, zip(*unknown, strict=True))
    return id_scores, ood_scores, id_classes, ood_classes, labels


def decisions(threshold, id_scores, ood_scores, id_classes, ood_classes, labels, unknown=99):
    """Return true and predicted classes of all rows at one threshold."""
    pooled = zip([*id_scores, *ood_scores], [*id_classes, *ood_classes], strict=True)
    decided = [c if s <= threshold else unknown for s, c in pooled]
    return [*labels, *[unknown] * len(ood_scores)], decided


@given(known_rows, unknown_rows)
def test_the_curve_against_scikit_learn_at_each_threshold(known, unknown):
    given_ = arguments(known, unknown)
    curve = open_set_curve(*given_)
    assert curve.thresholds.tolist() == sorted({*given_[0], *given_[1]})
    n = len(known)
    for t, f1, right, flagged, accepted in zip(*curve, strict=True):
        truth, decided = decisions(t, *given_)
        assert f1 == pytest.approx(f1_score(truth, decided, average="macro"), abs=1e-12)
        assert right == pytest.approx(np.mean(np.equal(truth, decided)[:n]))
        assert flagged == pytest.approx(np.mean(np.equal(truth, decided)[n:]))
        assert accepted == pytest.approx(np.mean(np.array(decided)[:n] != 99))


@given(known_rows, unknown_rows)
def test_f1_is_at_the_threshold_for_95_percent_of_id_and_the_best_is_the_maximum(known, unknown):
    given_ = arguments(known, unknown)
    pooled = sorted([*given_[0], *given_[1]])
    f1 = {t: f1_score(*decisions(t, *given_), average="macro") for t in pooled}
    threshold = next(t for t in pooled if np.mean(given_[0] <= t) >= 0.95)
    metrics = open_set_metrics(*given_)
    assert metrics["f1_macro"] == pytest.approx(f1[threshold], abs=1e-12)
    assert metrics["f1_macro_best"] == pytest.approx(max(f1.values()), abs=1e-12)


@given(known_rows, unknown_rows)
def test_areas_against_a_loop_over_thresholds(known, unknown):
    id_scores, ood_scores, id_classes, _, labels = arguments(known, unknown)
    right = id_classes == labels
    fpr, rate = [0.0], [0.0]
    for t in sorted({*id_scores, *ood_scores}):
        fpr.append(np.mean([s <= t for s in ood_scores]))
        rate.append(np.mean([s <= t and r for s, r in zip(id_scores, right, strict=True)]))
    area = sum((fpr[i] - fpr[i - 1]) * (rate[i] + rate[i - 1]) / 2 for i in range(1, len(fpr)))
    assert oscr(id_scores, ood_scores, right) == pytest.approx(area, abs=1e-12)
    expected = area / right.mean() if right.any() else 0
    assert cauroc(id_scores, ood_scores, right) == pytest.approx(expected, abs=1e-12)
    found = open_set_metrics(*arguments(known, unknown))
    assert (found["cauroc"], found["oscr"]) == pytest.approx((expected, area), abs=1e-12)


def test_cauroc_is_auroc_if_all_rows_are_classified_correctly():
    rng = np.random.default_rng(0)
    id_scores, ood_scores = rng.normal(0, 1, 60), rng.normal(1, 1, 50)
    assert cauroc(id_scores, ood_scores, np.ones(60, bool)) == auroc(id_scores, ood_scores)


def test_oscr_against_pytorch_ood(detectors):
    from pytorch_ood.metrics import oscr_score

    rng = np.random.default_rng(1)
    scores_, classes = rng.normal(0, 1, 200).round(1), rng.integers(0, 3, 200)
    labels = np.where(np.arange(200) < 120, rng.integers(0, 3, 200), -1)
    expected = oscr_score(*(torch.from_numpy(values) for values in (scores_, classes, labels)))
    found = oscr(scores_[:120], scores_[120:], classes[:120] == labels[:120])
    assert found == pytest.approx(float(expected), abs=1e-6)


def test_the_curve_by_hand():
    # scores 0 to 3: class 0 (correct), class 1 predicted as 0, an unknown row predicted as 1, class 1 (correct)
    curve = open_set_curve([0, 1, 3], [2], [0, 0, 1], [1], [0, 1, 1])
    f1 = [
        (1 + 0 + 2 / (1 + 3)) / 3,
        (2 / 3 + 0 + 2 / (1 + 2)) / 3,
        (2 / 3 + 0 + 0) / 3,
        (2 / 3 + 2 / (2 + 2) + 0) / 3,
    ]
    np.testing.assert_allclose(curve.macro_f1, f1)
    assert curve.known_accuracy == pytest.approx([1 / 3, 1 / 3, 1 / 3, 2 / 3])
    assert curve.unknown_accuracy.tolist() == [1, 1, 0, 0]


def test_perfect_recognition_and_none():
    perfect = open_set_metrics([0, 0, 1], [2, 3], [0, 1, 1], [0, 0], [0, 1, 1])
    assert set(perfect.values()) == {1.0}
    none = open_set_metrics([2, 3], [0, 0], [1, 0], [0, 0], [0, 1])
    assert set(none.values()) == {0.0}
    assert set(perfect) == {"f1_macro", "f1_macro_best", "cauroc", "oscr", "ccr_fpr10", "ccr_fpr1"}


def openood_ccr(confidence, ood_confidence, right, fpr):
    """Compute the rate row by row as in OpenOOD, where confidence is higher for ID."""
    count = next(k for k in range(1, len(ood_confidence) + 1) if k / len(ood_confidence) >= fpr)
    threshold = sorted(ood_confidence)[-count]
    return sum(c > threshold and ok for c, ok in zip(confidence, right, strict=True)) / len(confidence)


@given(known_rows, unknown_rows, st.sampled_from([1e-3, 0.01, 0.07, 0.1, 0.5, 1.0]))
def test_correct_classification_at_a_false_positive_rate(known, unknown, fpr):
    id_scores, ood_scores, id_classes, _, labels = arguments(known, unknown)
    right = id_classes == labels
    found = ccr_at_fpr(id_scores, ood_scores, right, fpr)
    assert found == pytest.approx(openood_ccr(-id_scores, -ood_scores, right, fpr))
    # a point of the curve of oscr: no other threshold with as few accepted OOD rows has a higher rate
    curve = open_set_curve(id_scores, ood_scores, id_classes, np.zeros(len(ood_scores), int), labels)
    fewer = 1 - curve.unknown_accuracy < fpr - 1e-12
    assert found == pytest.approx(curve.known_accuracy[fewer].max(initial=0))


def test_invalid_false_positive_rates_are_refused():
    for fpr in (0, -0.1, 1.01):
        with pytest.raises(UsageError, match="fpr must be"):
            ccr_at_fpr([0.0], [1.0], [True], fpr)
    with pytest.raises(DataError, match="2 values of"):
        ccr_at_fpr([0.0], [1.0], [True, True])


@given(known_rows, unknown_rows, st.randoms(use_true_random=False))
def test_auroc_by_class_against_separate_computations(known, unknown, random):
    id_scores, ood_scores, _, classes, _ = arguments(known, unknown)
    classes = np.where([random.random() < 0.2 for _ in classes], -1, classes)
    if (classes < 0).all():
        with pytest.raises(DataError, match="no OOD row has a class"):
            auroc_by_class(id_scores, ood_scores, classes)
        return
    numbers, values = auroc_by_class(id_scores, ood_scores, classes)
    assert numbers.tolist() == sorted(set(classes[classes >= 0]))
    expected = []
    for number in numbers:
        mine = ood_scores[classes == number]
        truth = np.r_[np.zeros(len(id_scores)), np.ones(len(mine))]
        expected.append(roc_auc_score(truth, np.r_[id_scores, mine]))
    assert values == pytest.approx(expected)
    assert auroc_macro(id_scores, ood_scores, classes) == pytest.approx(np.mean(expected))


@given(st.lists(st.tuples(scores, st.booleans()), min_size=1, max_size=7))
def test_aurra_is_the_mean_over_all_orders_of_equal_scores(rows):
    values, right = map(np.array, zip(*rows, strict=True))
    orders = [
        order
        for order in itertools.permutations(range(len(rows)))
        if all(values[a] <= values[b] for a, b in itertools.pairwise(order))
    ]
    expected = np.mean(
        [np.mean(np.cumsum(right[list(order)]) / np.arange(1, len(rows) + 1)) for order in orders]
    )
    assert aurra(values, right) == pytest.approx(expected)


def test_aurra_by_hand():
    right = np.array([True, True, False])
    assert aurra([0, 1, 2], right) == pytest.approx((1 + 1 + 2 / 3) / 3)
    assert aurra([2, 1, 0], right) == pytest.approx((0 + 1 / 2 + 2 / 3) / 3)
    assert aurra([0, 0], [True, True]) == 1 and aurra([0.0], [False]) == 0
    with pytest.raises(DataError, match="3 scores were given with 2"):
        aurra([0, 1, 2], [True, False])


def test_rows_without_a_label_are_left_out():
    rng = np.random.default_rng(2)
    id_scores, classes, labels = rng.normal(0, 1, 50), rng.integers(0, 3, 50), rng.integers(-1, 3, 50)
    ood = rng.normal(1, 1, 20), rng.integers(0, 3, 20)
    known = labels >= 0
    assert open_set_metrics(id_scores, ood[0], classes, ood[1], labels) == open_set_metrics(
        id_scores[known], ood[0], classes[known], ood[1], labels[known]
    )


@given(st.lists(st.tuples(st.integers(-2, 4), st.integers(-2, 4)), min_size=1, max_size=40))
def test_f1_of_decisions_against_scikit_learn_with_an_unknown_class(pairs):
    predictions, labels = np.array(pairs).T
    unknown = [np.where(values < 0, 4, values) for values in (labels, predictions)]
    assert macro_f1_open_set(predictions, labels, 4) == pytest.approx(f1_score(*unknown, average="macro"))


def test_f1_of_decisions_by_hand():
    # class 0: tp 1, fn 1; class 1: tp 1; unknown: tp 1, fp 1
    assert macro_f1_open_set([0, -1, 1, 2], [0, 0, 1, -1], 2) == pytest.approx((2 / 3 + 1 + 2 / 3) / 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id_predictions": [0]}, "2 ID scores were given with 1 predictions"),
        ({"labels": [0]}, "and 1 labels"),
        ({"ood_predictions": [0, 0]}, "1 OOD scores were given with 2 predictions"),
        ({"ood_predictions": [-1]}, "negative"),
        ({"labels": [-1, -1]}, "no ID scores"),
        ({"labels": [0.0, 1.0]}, "one integer per row"),
        ({"id_scores": [0.0, np.nan]}, "NaN"),
        ({"ood_scores": [], "ood_predictions": np.zeros(0, int)}, "no OOD scores"),
    ],
)
def test_invalid_input_is_refused(change, message):
    sound = {
        "id_scores": [0.0, 1.0], "ood_scores": [2.0], "id_predictions": [0, 1], "ood_predictions": [0],
        "labels": [0, 1],
    }  # fmt: skip
    for function in (open_set_curve, open_set_metrics):
        with pytest.raises(DataError, match=message):
            function(**{**sound, **change})


def test_invalid_decisions_are_refused():
    with pytest.raises(DataError, match="exceeds"):
        macro_f1_open_set([3], [0], 2)
    with pytest.raises(DataError, match="one prediction per label"):
        macro_f1_open_set([1, 0], [0], 2)


# ---- heads that classify, and result rows ---------------------------------------------------------


class Nearest(Mahalanobis):
    """Classifies by the negated first features, and scores by the Mahalanobis distance."""

    def classify_block(self, block, fitted):
        return -self.vectors(block)[:, :5]


@pytest.fixture
def sets():
    train, test = synthetic_sets()
    known = np.asarray(test.labels) >= 0
    return train, test.rows(known), dataclasses.replace(test.rows(~known), name="synthetic/odd")


def test_classes_are_predicted_by_the_backbone_for_heads_without_a_classifier(sets):
    train, test, odd = sets
    head = create_head("mahalanobis").fit(train)
    assert head.classify(test) is None
    scoring = score({"maha": head}, test, {"odd": odd})
    classes = {"test": test.logits.argmax(1), "odd": odd.logits.argmax(1)}
    (row,) = scoring.results["rows"]
    expected = open_set_metrics(head.score(test), head.score(odd), *classes.values(), test.labels)
    assert {key: row[key] for key in expected} == expected and "accuracy" not in row
    for record in scoring.records():
        np.testing.assert_array_equal(record["prediction"], classes[record["dataset"]])


def test_metrics_of_heads_that_classify_use_their_classes(sets):
    train, test, odd = sets
    head = Nearest().fit(train)
    logits = -test.features["avg"][:, :5].astype(np.float64)
    np.testing.assert_array_equal(head.classify(test), logits)
    scoring = score({"nearest": head}, test, {"odd": odd})
    (row,) = scoring.results["rows"]
    own = {"test": logits.argmax(1), "odd": (-odd.features["avg"][:, :5]).argmax(1)}
    assert row["accuracy"] == (own["test"] == test.labels).mean() != scoring.results["id"]["accuracy"]
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert row["brier"] == pytest.approx(np.square(p - np.eye(5)[test.labels]).sum(1).mean())
    expected = open_set_metrics(head.score(test), head.score(odd), *own.values(), test.labels)
    assert {key: row[key] for key in expected} == expected
    for record in scoring.records():
        np.testing.assert_array_equal(record["prediction"], own[record["dataset"]])


def test_a_head_that_classifies_needs_no_logits(sets):
    train, test, odd = (dataclasses.replace(part, logits=None, classifier=None) for part in sets)
    heads = {"nearest": Nearest().fit(train), "mahalanobis": create_head("mahalanobis").fit(train)}
    rows = {row["head"]: row for row in score(heads, test, {"odd": odd}).results["rows"]}
    assert 0 < rows["nearest"]["f1_macro"] <= rows["nearest"]["f1_macro_best"] <= 1
    assert "f1_macro" not in rows["mahalanobis"] and rows["mahalanobis"]["auroc"] > 0.5


def test_logits_of_heads_have_the_array_type_of_the_input_and_are_zero_for_dropped_rows(sets):
    train, test, _ = sets
    head = Nearest(nonfinite="drop").fit(train)
    values = test.features["avg"].copy()
    values[3, 7] = np.nan
    with pytest.warns(UserWarning, match="left out"):
        found = head.classify(FeatureSet({"avg": torch.from_numpy(values)}))
    assert isinstance(found, torch.Tensor) and found.dtype == torch.float64
    expected = -values[:, :5]
    expected[3] = 0
    np.testing.assert_array_equal(found, expected)
    assert len(head.classify(test.rows(slice(0, 0)))) == 0


def test_the_report_contains_open_set_metrics_and_the_terminal_table_does_not(sets, tmp_path):
    train, test, odd = sets
    head = Nearest().fit(train)
    results = score({"nearest": head}, test, {"odd": odd}).results
    write_report(tmp_path / "with.html", results, {})
    bare = {**results, "rows": [{k: v for k, v in results["rows"][0].items() if k in SHOWN}]}
    write_report(tmp_path / "without.html", bare, {})
    shown, hidden = ((tmp_path / f"{name}.html").read_text() for name in ("with", "without"))
    for key, title in (("f1_macro", "macro\u00a0F1"), ("cauroc", "CAUROC"), ("oscr", "OSCR")):
        assert f"{100 * results['rows'][0][key]:.2f}" in shown and title in shown.replace("&nbsp;", "\u00a0")
        assert title not in hidden.replace("&nbsp;", "\u00a0")
    printed = results_table(results, 200).plain.splitlines()
    assert len(printed[-1].split()) == 2 + len(METRICS) and not any("F1" in line for line in printed)


def test_warnings_on_constant_scores_and_notes_occur_once(sets):
    train, test, odd = sets
    train, test, odd = (
        dataclasses.replace(part, labels=np.zeros(len(part), int), logits=None, classifier=None)
        for part in (train, test, odd)
    )
    head = create_head("mlp", epochs=1).fit(train)
    head.annotate(notes=(*head.record.notes, "mlp: beware"))
    heads = {f"mlp@seed=0[{which}]": ask(head, which) for which in ("msp", "alpha0")}
    warnings = score(heads, test, {"odd": odd}).results["warnings"]
    assert [text for text in warnings if "beware" in text] == ["mlp@seed=0: beware"]
    assert [text for text in warnings if "same score" in text] == [
        "mlp@seed=0[msp] gives every row the same score, so it detects nothing"
    ]


def test_means_over_sets_and_csv_contain_open_set_metrics(sets, tmp_path):
    train, test, odd = sets
    head = Nearest().fit(train)
    rows = score({"nearest": head}, test, {"odd": odd, "more": odd.rows(slice(0, 20))}).results["rows"]
    (mean,) = mean_rows(rows)
    for key in ("f1_macro", "f1_macro_best", "cauroc", "oscr"):
        assert mean[key] == pytest.approx(np.mean([row[key] for row in rows]))
    write_csv(tmp_path / "rows.csv", rows)
    with open(tmp_path / "rows.csv", newline="") as file:
        read = list(csv.DictReader(file))
    assert [float(row["f1_macro_best"]) for row in read] == [row["f1_macro_best"] for row in rows]


@pytest.mark.parametrize(("name", "which", "offset"), [("postnet", "max-p", 0), ("mlp", "msp", 1)])
def test_classes_of_trained_heads_agree_with_the_probabilities_of_their_scores(sets, name, which, offset):
    train, test, _ = sets
    options = {"epochs": 15, "batch_size": 64, "width": 16, "depth": 1, "lr": 1e-2}
    head = create_head(name, which=which, **options).fit(train)
    probabilities = np.exp(head.classify(test))
    probabilities /= probabilities.sum(1, keepdims=True)
    assert (probabilities.argmax(1) == test.labels).mean() > 0.5
    np.testing.assert_allclose(head.score(test), offset - probabilities.max(1), atol=1e-9)


def test_memory_does_not_depend_on_class_numbers():
    rng = np.random.default_rng(3)
    labels, predicted, others = (rng.integers(0, 3, 50) for _ in range(3))
    scores, ood = rng.normal(size=50), rng.normal(size=50) + 1
    numbers = np.array([7, 900_000, 10**12])  # arrays indexed by these numbers would need terabytes
    plain = open_set_metrics(scores, ood, predicted, others, labels)
    assert open_set_metrics(scores, ood, numbers[predicted], numbers[others], numbers[labels]) == plain


@pytest.mark.parametrize("metric", [cauroc, oscr])
@pytest.mark.parametrize(
    "sides", [([], [1.0], []), ([1.0], [], [False]), ([np.nan, 1.0], [2.0], [False, True])]
)
def test_sides_without_usable_scores_are_an_error(metric, sides):
    with pytest.raises(DataError):
        metric(*map(np.asarray, sides))
