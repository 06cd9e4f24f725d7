"""Full-spectrum detection against scikit-learn on concatenated scores, by command and in Python."""

import csv
import dataclasses
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

import featood as package
from featood.cache import FeatureCache, FeatureSet, import_arrays
from featood.data.catalogue import suites
from featood.errors import UsageError
from featood.heads import create_head, head_class
from featood.metrics import cauroc, delong_difference, delong_interval
from featood.pipeline import scoring_all
from featood.pipeline.comparison import Uncertainty
from featood.pipeline.full_spectrum import numbered_as
from featood.pipeline.resolve import find_test_sets
from featood.pipeline.scoring import ScorePlan, score, score_selection
from featood.pipeline.selection import select
from featood.report import results_table
from featood.testing.fixture import synthetic_sets, with_main

TRAIN, TEST = synthetic_sets()
KNOWN = TEST.rows(np.asarray(TEST.labels) >= 0)
HEADS = ("msp", "knn", "norm")


def noisy(data, scale, seed):
    """Rows of the same classes with a covariate shift."""
    values = data.features["avg"]
    noise = np.random.default_rng(seed).normal(0, scale, values.shape)
    return with_main(data, (values + noise).clip(0).astype(np.float32))


FOG, SNOW = noisy(KNOWN.rows(slice(0, 50)), 0.8, 1), noisy(KNOWN.rows(slice(20, 50)), 1.5, 2)


@pytest.fixture
def selection(tmp_path):
    cache = FeatureCache(tmp_path / "cache")
    odd = TEST.rows(np.asarray(TEST.labels) < 0)

    def put(key, data, **rest):
        logits, labels = np.asarray(data.logits), np.asarray(data.labels)
        import_arrays(
            cache, key, {"avg": np.asarray(data.features["avg"])}, logits, labels, data.classifier, **rest
        )

    put("net/news/train", TRAIN.rows(np.asarray(TRAIN.labels) >= 0))
    put("net/news/test", KNOWN)
    for name, data in (("spam", odd), ("junk", noisy(odd, 0.3, 3)), ("fog", FOG), ("snow", SNOW)):
        put(f"net/{name}/test", data, run={"role": "ood"})
    return select(cache, "net", "news")


@pytest.fixture
def heads(selection):
    made = {name: create_head(name) for name in HEADS}
    for head in made.values():
        head.fit(selection.open("train"))
    return made


def opened(selection, *names):
    return {name: selection.cache[f"net/{name}/test"] for name in names}


def fpr95(inside, outside):
    """FPR95 by scikit-learn, with ID as the positive class."""
    truth = np.r_[np.ones(len(inside)), np.zeros(len(outside))]
    rate, accepted, _ = roc_curve(truth, -np.r_[inside, outside], drop_intermediate=False)
    return rate[(accepted >= 0.95).argmax()]


def test_every_metric_is_that_of_the_joined_scores(selection, heads):
    outliers, shifted = opened(selection, "spam", "junk"), opened(selection, "fog", "snow")
    scoring = score(heads, selection.open("test"), outliers, shifted=shifted)
    labels = np.concatenate([data.labels for data in (KNOWN, FOG, SNOW)])
    predicted = np.concatenate([np.argmax(data.logits, 1) for data in (KNOWN, FOG, SNOW)])
    for row in scoring.results["rows"]:
        parts = [scoring.scores[row["head"], name] for name in ("news", "fog", "snow")]
        inside, outside = np.concatenate(parts), scoring.scores[row["head"], row["ood"]]
        truth, values = np.r_[np.zeros(len(inside)), np.ones(len(outside))], np.r_[inside, outside]
        assert row["auroc"] == pytest.approx(roc_auc_score(truth, values))
        assert row["aupr_out"] == pytest.approx(average_precision_score(truth, values))
        assert row["aupr_in"] == pytest.approx(average_precision_score(1 - truth, -values))
        assert row["fpr95"] == pytest.approx(fpr95(inside, outside))
        assert row["fpr95_ood"] == pytest.approx(fpr95(-outside, -inside))
        assert row["cauroc"] == pytest.approx(cauroc(inside, outside, predicted == labels))
        assert (row["n_id"], row["n_ood"], row["shifted"]) == (160, 40, "fog, snow")
        alone = roc_auc_score(np.r_[np.zeros(80), np.ones(40)], np.r_[parts[0], outside])
        assert abs(alone - row["auroc"]) > 0.01, (
            "the joined rows would not be told from those of the set alone"
        )
    one = package.evaluate(heads["knn"], selection.open("test"), outliers, shifted)
    assert {name: values["auroc"] for name, values in one.items()} == {
        row["ood"]: row["auroc"] for row in scoring.results["rows"] if row["head"] == "knn"
    }


def test_accuracy_is_that_of_the_set_alone_of_each_shifted_set_and_of_all_rows(selection, heads):
    shifted = opened(selection, "fog", "snow")
    outliers = opened(selection, "spam")
    plain = score(heads, selection.open("test"), outliers).results["id"]
    facts = score(heads, selection.open("test"), outliers, shifted=shifted, intervals=Uncertainty()).results[
        "id"
    ]
    hits = [int((np.argmax(data.logits, 1) == data.labels).sum()) for data in (KNOWN, FOG, SNOW)]
    assert {key: facts[key] for key in plain} == plain and facts["accuracy"] == hits[0] / 80
    assert [(one["dataset"], one["n"], one["accuracy"]) for one in facts["shifted"]] == [
        ("fog", 50, hits[1] / 50),
        ("snow", 30, hits[2] / 30),
    ]
    # as OpenOOD with fsood=True
    assert facts["joined"]["n"] == 160 and facts["joined"]["accuracy"] == pytest.approx(sum(hits) / 160)
    assert facts["joined"]["accuracy_low"] < sum(hits) / 160 < facts["joined"]["accuracy_high"]


def test_intervals_and_tests_use_the_joined_scores(selection, heads):
    outliers, shifted = opened(selection, "spam"), opened(selection, "fog")
    scoring = score(heads, selection.open("test"), outliers, shifted=shifted, intervals=Uncertainty())

    def pair(head):
        inside = [scoring.scores[head, name] for name in ("news", "fog")]
        return np.concatenate(inside), scoring.scores[head, "spam"]

    for row in scoring.results["rows"]:
        found = (row["auroc"], row["auroc_low"], row["auroc_high"])
        assert found == pytest.approx(delong_interval(pair(row["head"])))
    for test in scoring.results["comparison"]["tests"]:
        difference, *_, p = delong_difference(pair(test["head"]), pair(test["best"]))
        assert (test["difference"], test["p"]) == pytest.approx((difference, p))


def test_the_command_says_what_is_joined_everywhere(selection, featood, tmp_path, monkeypatch):
    monkeypatch.setitem(suites._SUITES, "news-shifted", ("fog", "snow", "hail"))
    assert featood("fit", "knn")[0] == 0
    paths = {name: tmp_path / f"r.{name}" for name in ("json", "csv", "parquet", "html")}
    words = ("score", "--head", "knn", "--head", "msp", "--ood", "spam,junk")
    code, out, err = featood(
        *words, "--shifted", "news-shifted", "--json", paths["json"], "--csv", paths["csv"],
        "--scores", paths["parquet"], "--report", paths["html"],
    )  # fmt: skip
    assert code == 0, err
    assert "on net/news/test (80 rows) joined with net/fog/test (50 rows), net/snow/test (30 rows)" in err
    assert "warning: sets that could not be found are left out: hail" in err
    lines = out.splitlines()
    assert lines[0].startswith("ID news/test, 80 rows, accuracy ")
    assert lines[1].startswith("joined with fog/test, 50 rows, accuracy ")
    assert lines[2].startswith("joined with snow/test, 30 rows, accuracy ")
    assert lines[3].startswith("full-spectrum ID, 160 rows, accuracy ") and "; metrics in %" in lines[3]
    body = json.loads(paths["json"].read_text())
    assert [one["dataset"] for one in body["id"]["shifted"]] == ["fog", "snow"]
    assert body["evidence"]["shifted"] == ["fog", "snow"]
    assert {row["ood"] for row in body["rows"]} == {"spam", "junk"}
    assert {(row["shifted"], row["n_id"]) for row in csv.DictReader(paths["csv"].open())} == {
        ("fog, snow", "160")
    }
    page = " ".join(paths["html"].read_text().split())
    assert "fog / test, 50 rows, accuracy" in page and "Full-spectrum ID rows</dt><dd>160, accuracy" in page
    assert '"known":"news + 2 shifted (ID)"' in page
    table = pq.read_table(paths["parquet"]).to_pydict()
    assert {name: table["dataset"].count(name) for name in set(table["dataset"])} == {
        "news": 160, "fog": 100, "snow": 60, "spam": 80, "junk": 80,
    }  # fmt: skip
    # every row is confirmed from the cache, and the comma separates sets as for --ood
    code, checked, _ = featood("verify", paths["json"])
    assert code == 0 and checked.count("confirmed") == 5
    code, again, _ = featood(*words, "--shifted", "fog,snow", "--json", "-")
    assert code == 0 and [row["auroc"] for row in json.loads(again)["rows"]] == [
        row["auroc"] for row in body["rows"]
    ]
    code, _, _ = featood(
        "report", *words[1:], "--shifted", "fog", "--shifted", "snow", "--out", paths["html"]
    )
    assert code == 0 and "Full-spectrum ID rows</dt><dd>160" in paths["html"].read_text()
    monkeypatch.setattr(scoring_all, "list_heads", lambda: {name: head_class(name).card for name in HEADS})
    code, every, _ = featood("score", "--all", "--ood", "spam", "--shifted", "fog", "--json", "-")
    assert code == 0 and {row["n_id"] for row in json.loads(every)["rows"]} == {130}


def test_changes_of_a_shifted_set_are_found(selection, featood, tmp_path):
    path = tmp_path / "r.json"
    assert featood("score", "--head", "msp", "--ood", "spam", "--shifted", "fog", "--json", path)[0] == 0
    edited = json.loads(path.read_text())
    edited["evidence"]["shifted"] = []
    (tmp_path / "edited.json").write_text(json.dumps(edited))
    code, out, _ = featood("verify", tmp_path / "edited.json")
    assert code == 5 and "different: msp on spam" in out
    selection.cache.remove(["net/fog/test"])
    code, out, _ = featood("verify", path)
    assert code == 5 and "different: msp on spam: net/fog/test is not in the cache" in out


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--ood", "spam", "--shifted", "news"), "news is the in-distribution set itself"),
        (
            ("--ood", "fog", "--shifted", "fog"),
            "cannot be both in-distribution (--shifted) and out-of-distribution",
        ),
        (("--ood", "spam", "--shifted", "cifar10-near"), "cifar10-near lists out-of-distribution sets"),
        (("--shifted", "fog"), "name what to score against"),
        (
            ("--suite", "imagenet-shifted", "--ood", "spam", "--shifted", "imagenet-c"),
            "imagenet-c cannot be both",
        ),
    ],
)
def test_sets_that_make_no_sense_are_refused_in_one_line(selection, featood, words, text):
    code, _, err = featood("score", "--head", "msp", *words)
    assert code == 2 and text in err and len(err.splitlines()) == 1


def test_nothing_is_extracted_before_a_refusal(selection, monkeypatch):
    monkeypatch.setattr("featood.pipeline.resolve.find_set", lambda *_, **__: pytest.fail("was looked up"))
    with pytest.raises(UsageError, match="both"):
        find_test_sets(selection, ["spam", "cifar10-c"], shifted=["CIFAR10-C:kind=fog"])


def test_a_head_that_learned_from_a_shifted_set_is_refused(selection, featood):
    assert featood("fit", "weighted-energy", "--outliers", "fog")[0] == 0
    words = ("score", "--head", "weighted-energy", "--ood", "spam", "--shifted", "fog")
    code, _, err = featood(*words)
    assert code == 2 and "trained on fog" in err
    assert featood(*words, "--force")[0] == 0


def made(names, labels, logits=None):
    rows = np.zeros((len(labels), 2), np.float32)
    return FeatureSet({"avg": rows}, logits, labels=np.array(labels), classes=names, name="a/b/c")


@pytest.mark.parametrize(
    ("own", "names", "labels", "expected"),
    [
        (("n1 tench", "n2 cock", "n3 great white shark"), (), [2, 0, -1], [2, 0, -1]),
        (("n1 tench", "n2 cock", "n3 great white shark"), ("n3", "n1"), [0, 1, -3], [2, 0, -1]),
        (("n1 tench", "n2 cock", "n3 great white shark"), ("0", "1", "2"), [2, 1, 0], [2, 1, 0]),
        (("cat", "dog"), ("dog", "cat"), [0, 1, 1], [1, 0, 0]),
        (("cat", "dog"), ("cat", "emu"), [0, 1, 1], None),
        (("cat", "dog"), (), [0, 1, 2], None),
        ((), ("cat", "dog", "emu"), [0, 1, 2], [0, 1, 2]),
        ((), ("cat", "dog"), [0, 1, 1], None),
        (("cat", "dog"), ("emu",), [-1, -1, -1], [-1, -1, -1]),
    ],
)
def test_labels_are_numbered_as_those_of_the_in_distribution_set(own, names, labels, expected):
    known = numbered_as(made(own, [0, 1, 1], np.zeros((3, 3))), made(names, labels)).labels
    assert (known is None) == (expected is None) and (known is None or known.tolist() == expected)


def test_labels_of_other_classes_do_not_count_but_their_rows_do(selection, heads):
    (fog,) = opened(selection, "fog").values()
    test = dataclasses.replace(selection.open("test"), classes=tuple("abcde"))
    other = dataclasses.replace(fog, classes=tuple("vwxyz"))
    scoring = score({"msp": heads["msp"]}, test, opened(selection, "spam"), shifted={"fog": other})
    facts, (row,) = scoring.results["id"], scoring.results["rows"]
    (warning,) = (line for line in scoring.results["warnings"] if "fog" in line)
    assert "classes of fog are not those of news" in warning and "labels are left out" in warning
    assert "accuracy" not in facts["shifted"][0] and "accuracy" not in facts["joined"]
    assert row["n_id"] == facts["joined"]["n"] == 130
    correct = np.argmax(KNOWN.logits, 1) == KNOWN.labels
    inside, outside = scoring.scores["msp", "news"], scoring.scores["msp", "spam"]
    assert row["cauroc"] == pytest.approx(cauroc(inside, outside, correct))
    title = results_table(scoring.results).plain
    assert "joined with fog/test, 50 rows\nfull-spectrum ID, 130 rows\nOOD spam; metrics in %" in title


def test_a_plan_joins_sets_by_name(selection):
    scoring = score_selection(selection, ["msp"], ["spam"], how=ScorePlan(shifted=("snow",)))
    assert list(scoring.sets) == ["news", "snow", "spam"] and scoring.results["rows"][0]["n_id"] == 110
