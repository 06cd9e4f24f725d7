"""OpenOOD's files, compared with its formulas: scikit-learn's curves of the negated confidence."""

import csv

import numpy as np
import pytest
from sklearn import metrics

from featood.errors import DataError
from featood.metrics import detection_metrics, trapezoidal_aupr
from featood.report import openood_tables, write_openood

SETS = {"tiny-imagenet": "tin", "cifar100": "cifar100", "textures": "texture", "svhn": "svhn"}


def openood_metrics(known, other):
    """FPR@95, AUROC, AUPR_IN and AUPR_OUT as in openood/evaluators/metrics.py; here a high score means OOD."""
    score, is_ood = np.r_[known, other], np.r_[np.zeros(len(known)), np.ones(len(other))]
    fpr, tpr, _ = metrics.roc_curve(is_ood, score)
    precision_in, recall_in, _ = metrics.precision_recall_curve(1 - is_ood, -score)
    precision_out, recall_out, _ = metrics.precision_recall_curve(is_ood, score)
    areas = metrics.auc(recall_in, precision_in), metrics.auc(recall_out, precision_out)
    return [fpr[np.argmax(tpr >= 0.95)], metrics.auc(fpr, tpr), *areas]


def made(heads, decimals=9, sets=SETS, shifted=False):
    rng = np.random.default_rng(0)
    scores, rows = {}, []
    parts = ["cifar10", *(["cifar10-c"] if shifted else [])]
    for head in heads:
        scores |= {(head, part): rng.normal(size=200).round(decimals) for part in parts}
        for number, name in enumerate(sets):
            scores[head, name] = rng.normal(0.5 + number, 1, 150).round(decimals)
            known = np.concatenate([scores[head, part] for part in parts])
            rows.append({"head": head, "ood": name, **detection_metrics(known, scores[head, name])})
    facts = {"dataset": "cifar10", "accuracy": 0.95}
    if shifted:
        facts |= {"shifted": [{"dataset": "cifar10-c"}], "joined": {"accuracy": 0.75}}
    return {"id": facts, "rows": rows}, scores


@pytest.mark.parametrize("decimals", [9, 1], ids=["distinct", "ties"])
def test_areas_are_those_of_scikit_learn(decimals):
    rng = np.random.default_rng(1)
    known, other = rng.normal(size=300).round(decimals), rng.normal(1, 1, 200).round(decimals)
    assert trapezoidal_aupr(known, other) == pytest.approx(openood_metrics(known, other)[2:], abs=1e-12)


@pytest.mark.parametrize("shifted", [False, True])
def test_the_file_has_the_rows_columns_and_values_of_openood(tmp_path, shifted):
    results, scores = made(["msp", "a/b"], shifted=shifted)
    files = write_openood(tmp_path, results, scores)
    assert [file.name for file in files] == ["msp.csv", "a%2Fb.csv"]
    text = files[0].read_text(encoding="utf-8")
    assert text.startswith(",FPR@95,AUROC,AUPR_IN,AUPR_OUT,ACC\n")
    rows = {name: values for name, *values in list(csv.reader(text.splitlines()))[1:]}
    assert list(rows) == ["cifar100", "tin", "nearood", "svhn", "texture", "farood"]
    parts = ["cifar10", "cifar10-c"] if shifted else ["cifar10"]
    known = np.concatenate([scores["msp", part] for part in parts])
    expected = {SETS[name]: np.array(openood_metrics(known, scores["msp", name])) for name in SETS}
    expected["nearood"] = (expected["cifar100"] + expected["tin"]) / 2
    expected["farood"] = (expected["svhn"] + expected["texture"]) / 2
    for name, values in expected.items():
        shown = [f"{100 * value:.2f} ± 0.00" for value in (*values, 0.75 if shifted else 0.95)]
        assert rows[name] == shown


def test_seeds_are_runs_with_the_deviation_of_numpy():
    results, scores = made(["net@seed=0", "net@seed=1"])
    labels = ["net@seed=0", "net@seed=1"]
    results["repeats"] = [{"head": "net", "ood": name, "labels": labels} for name in SETS]
    (text,) = openood_tables(results, scores).values()
    values = [openood_metrics(scores[label, "cifar10"], scores[label, "svhn"])[1] for label in labels]
    assert f"{100 * np.mean(values):.2f} ± {100 * np.std(values):.2f}" in text


def test_sets_without_near_or_far_are_an_error():
    results, scores = made(["msp"], sets={"svhn": "svhn"})
    with pytest.raises(DataError, match="no sets of cifar10-near"):
        openood_tables(results, scores)
