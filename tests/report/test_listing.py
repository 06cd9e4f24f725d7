"""Order, folding and means of the lines of a table."""

import csv
import io

import numpy as np
import pytest
from test_report import row

from featood.errors import UsageError
from featood.metrics import detection_metrics
from featood.pipeline.evidence import ranks_digest
from featood.report import Order, listed, results_document

CIFAR = {"dataset": "cifar10", "split": "test", "n": 100}
SETS = {"svhn": 0.9, "cifar100": 0.5, "lsun-crop": 1.0, "tiny-imagenet": 0.7, "mnist": 0.8}


def results(heads, digests=None, **rest):
    rows = [row(head, ood, auroc) for head, by_set in heads.items() for ood, auroc in by_set.items()]
    evidence = {"heads": {head: {"ranks_sha256": digest} for head, digest in (digests or {}).items()}}
    return {"id": CIFAR, "rows": rows, "evidence": evidence, **rest}


def lines(listing, position=0):
    return [(line.depth, line.ood, line.row["auroc"]) for line in listing.heads[position][1]]


def test_near_and_far_sets_have_means_of_their_own_beside_the_mean_of_all():
    listing = listed(results({"knn": SETS}))
    assert lines(listing) == [
        (0, "mean", pytest.approx(np.mean(list(SETS.values())))),
        (1, "near", pytest.approx((0.5 + 0.7) / 2)),
        (2, "cifar100", 0.5),
        (2, "tiny-imagenet", 0.7),
        (1, "far", pytest.approx((0.9 + 0.8) / 2)),
        (2, "mnist", 0.8),
        (2, "svhn", 0.9),
        (1, "lsun-crop", 1.0),
    ]
    assert "far: mean over mnist, svhn" in listing.notes({})


def test_a_group_of_all_sets_and_sets_without_suites_have_no_further_mean():
    near = {name: SETS[name] for name in ("cifar100", "tiny-imagenet")}
    assert [line[1] for line in lines(listed(results({"knn": near})))] == [
        "mean",
        "cifar100",
        "tiny-imagenet",
    ]
    other = {**results({"knn": SETS}), "id": {"dataset": "flowers"}}
    assert [line[1] for line in lines(listed(other))] == ["mean", *SETS]


def test_heads_are_sorted_by_the_mean_or_by_one_metric_on_one_set():
    found = results(
        {"low": {"a": 0.9, "b": 0.1}, "high": {"a": 0.7, "b": 0.6}, "none": {"a": None, "b": None}}
    )
    found["rows"][0]["fpr95"] = 0.1

    def order(by, **rest):
        return [names for names, _ in listed(found, Order(by, **rest)).heads]

    assert order("auroc") == [["high"], ["low"], ["none"]]
    assert order("auroc:a") == [["low"], ["high"], ["none"]]
    assert order("fpr95:a") == [["low"], ["high"], ["none"]]  # lower is better
    assert order("auroc", top=1) == [["high"]]
    assert "1 of 3 heads are listed" in listed(found, Order(top=1)).notes({})
    with pytest.raises(UsageError, match="'aurok' is not a metric; did you mean auroc"):
        order("aurok")
    with pytest.raises(UsageError, match="'near' is not a set in the table; there are mean, a, b"):
        order("auroc:near")


def test_the_best_values_are_those_of_all_heads_listed_or_not():
    found = results({"x": {"a": 0.9}, "y": {"a": 0.8}})
    found["rows"][1]["fpr95"] = 0.1
    ((_, (line,)),) = listed(found, Order(top=1)).heads
    assert "auroc" in line.best and "fpr95" not in line.best


def test_heads_with_the_same_ranks_are_listed_together_unless_asked_not_to():
    same = {"a": 0.9}
    found = results(
        {"max-logit": same, "knn": same, "copy": same}, {"max-logit": "1", "knn": "2", "copy": "1"}
    )
    assert [names for names, _ in listed(found).heads] == [["max-logit", "copy"], ["knn"]]
    assert any(note.startswith("=: heads that rank all rows alike") for note in listed(found).notes({}))
    assert [names for names, _ in listed(found, Order(fold=False)).heads] == [
        ["max-logit"],
        ["knn"],
        ["copy"],
    ]
    assert listed(results({"x": same, "y": same})).heads[1:]  # without digests, equal metrics are no reason


def test_the_digest_of_ranks_is_that_of_the_order_of_all_rows_with_ties():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=50).round(1), rng.normal(size=30).round(1)
    same = ranks_digest([np.exp(first), np.exp(second)])
    assert ranks_digest([first, second]) == same
    assert ranks_digest([-first, -second]) != same
    other = second.copy()
    other[0] += 0.05  # breaks ties only
    assert ranks_digest([first, other]) != same
    metrics = detection_metrics(first, second)
    assert detection_metrics(np.exp(first), np.exp(second))["auroc"] == metrics["auroc"]


HOSTILE = "a|b_c*&<i>$%\\"


def test_markdown_has_one_row_a_line_and_escapes_names():
    text = results_document(results({HOSTILE: {"a": 0.9}, "knn": {"a": 0.8}}), "markdown")
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) == 4 and len({line.count("|") - line.count("\\|") for line in table}) == 1
    assert "**90.00**" in table[2] and r"a\|b\_c\*&amp;&lt;i&gt;\$%" in table[2]
    assert "<i>" not in text


def test_latex_escapes_names_and_folds_heads():
    found = results({HOSTILE: {"a": 0.9}, "knn": {"a": 0.9}}, {HOSTILE: "1", "knn": "1"})
    text = results_document(found, "latex")
    body = text.split(r"\midrule")[1].split(r"\bottomrule")[0].strip()
    assert body.startswith(
        r"a$|$b\_c*\&$<$i$>$\$\%\textbackslash{} = knn & a & \textbf{90.00} &"
    ) and body.endswith(r"\\")
    assert body.count("&") - 1 == text.split(r"\begin{tabular}{")[1].split("}")[0].count("r") + 1


def test_csv_has_every_head_and_its_means_as_fractions():
    found = results({"x": SETS, "y": SETS}, {"x": "1", "y": "1"})
    read = list(csv.DictReader(io.StringIO(results_document(found, "csv"))))
    assert [line["head"] for line in read] == ["x"] * 8 + ["y"] * 8
    assert [line["ood"] for line in read[:3]] == ["mean", "near", "cifar100"]
    assert read[1]["sets"] == "cifar100, tiny-imagenet" or read[1]["sets"] == "tiny-imagenet, cifar100"
    assert float(read[0]["auroc"]) == pytest.approx(0.78)
