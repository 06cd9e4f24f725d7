"""Reports from saved results, without scoring again."""

import json
import shutil

import numpy as np
import pytest
from pages import data_of
from test_comparison import fitted, selection  # noqa: F401

from featood.data import near_and_far
from featood.errors import Mismatch
from featood.pipeline.saved_results import read_results, saved_scoring
from featood.report import read_scores

SCORE = ("score", "--head", "knn", "--head", "msp", "--ood", "spam,junk", "--intervals", "delong")


@pytest.fixture
def saved(fitted, featood, tmp_path):  # noqa: F811
    names = {"--json": "results.json", "--scores": "scores.parquet", "--report": "first.html"}
    words = [word for option, name in names.items() for word in (option, tmp_path / name)]
    code, _, err = featood(*SCORE, "--no-umap", *words)
    assert code == 0, err
    return tmp_path


def report(featood, folder, *words):
    out = folder / "again.html"
    code, _, err = featood("report", "--from", folder / "results.json", "--no-umap", "--out", out, *words)
    assert code == 0, err
    return data_of(out.read_text()), err


def test_the_page_from_files_has_the_same_data(saved, featood, monkeypatch):
    from featood.heads.base.head import Head

    monkeypatch.setattr(Head, "score", lambda *_, **__: pytest.fail("scored again"))
    found, err = report(featood, saved, "--scores", saved / "scores.parquet")
    assert found == data_of((saved / "first.html").read_text())
    assert found["map"] and found["heads"][0]["classes"][0] and "no features" not in err


def test_without_the_cache_only_map_and_class_names_are_missing(saved, featood):
    shutil.rmtree(saved / "cache")
    found, err = report(featood, saved, "--scores", saved / "scores.parquet")
    first = data_of((saved / "first.html").read_text())
    assert found["map"] is None and first["map"]
    for part in ("sets", "matrix", "rows", "reliability"):
        assert found[part] == first[part]
    for ours, theirs in zip(found["heads"], first["heads"], strict=True):
        assert {**ours, "mapped": ""} == {**theirs, "mapped": ""}
    assert err.count("no features and no images") == 3


def test_without_scores_the_page_has_the_tables_only(saved, featood):
    found, err = report(featood, saved)
    first = data_of((saved / "first.html").read_text())
    assert found["matrix"] == first["matrix"] and found["heads"] == [None, None]
    assert "no --scores" in err


def test_scores_of_another_run_are_refused(saved, featood):
    results = read_results(saved / "results.json")
    records = list(read_scores(saved / "scores.parquet"))
    records[1]["score"] = records[1]["score"] + 1e-9
    with pytest.raises(Mismatch, match="not the scores of knn on spam"):
        saved_scoring(results, records)
    edited = json.loads((saved / "results.json").read_text())
    edited["evidence"]["heads"]["renamed"] = edited["evidence"]["heads"].pop("knn")
    (saved / "results.json").write_text(json.dumps(edited))
    words = ("--from", saved / "results.json", "--scores", saved / "scores.parquet")
    code, _, err = featood("report", *words, "--out", saved / "x.html")
    assert code == 5 and "not the scores of knn" in err and not (saved / "x.html").exists()


@pytest.mark.parametrize(
    "words",
    [("--head", "knn"), ("--ood", "spam"), ("--all",), ("--intervals", "delong"), ("--split", "test")],
)
def test_options_of_scoring_do_not_go_with_saved_results(saved, featood, words):
    code, _, err = featood("report", "--from", saved / "results.json", *words)
    assert code == 2 and "--from" in err


def test_scores_need_results(fitted, featood, tmp_path):  # noqa: F811
    code, _, err = featood("report", "--ood", "spam", "--scores", tmp_path / "s.parquet")
    assert code == 2 and "--from" in err


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"rows": []}'])
def test_other_files_are_refused(featood, tmp_path, text):
    path = tmp_path / "r.json"
    path.write_text(text)
    code, _, err = featood("report", "--from", path)
    assert code == 3 and "featood score --json" in err


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda body: body["rows"][0].update(auroc="high"), "rows[0].auroc"),
        (lambda body: body["id"].pop("dataset"), "id.dataset"),
        (lambda body: body["id"]["classes"].append("ant"), "id.classes["),
        (lambda body: body.update(warnings="none"), "warnings"),
        (lambda body: body.update(groups={"near": "spam"}), "groups.near"),
        (lambda body: body["rows"][0].update(auroc=float("nan")), "is not JSON"),
    ],
)
def test_broken_files_are_refused_by_field(saved, featood, change, field):
    body = json.loads((saved / "results.json").read_text())
    change(body)
    (saved / "results.json").write_text(json.dumps(body))
    code, _, err = featood("report", "--from", saved / "results.json", "--out", saved / "x.html")
    assert code == 3 and field in err and len(err.strip().splitlines()) == 1
    assert not (saved / "x.html").exists()


def test_reliability_leaves_out_empty_bins(saved):
    curve = json.loads((saved / "results.json").read_text())["id"]["reliability"]
    assert set(curve) == {"confidence", "accuracy", "rows"} and min(curve["rows"]) > 0
    assert np.isfinite([*curve["confidence"], *curve["accuracy"]]).all()


def test_suites_say_which_sets_are_near_and_far():
    names = ["textures", "cifar100", "photos", "tiny-imagenet"]
    expected = {"near": ["cifar100", "tiny-imagenet"], "far": ["textures"]}
    assert near_and_far("cifar10", names) == expected
    assert near_and_far("mine", names) == {}
    # a suite that was asked for goes before the one of the set
    assert near_and_far("mine", names, ["cifar10-near", "cifar10-odin"])["near"] == [
        "cifar100",
        "tiny-imagenet",
    ]
    assert near_and_far("cifar10", ["textures"], ["imagenet-near", "midog-near"]) == {"far": ["textures"]}
