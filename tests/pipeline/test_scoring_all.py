import json

import numpy as np
import pytest
from reporters import Kept

from featood.cache import FeatureCache, FeatureSet
from featood.cache.transfer import import_arrays
from featood.errors import DataError, UsageError
from featood.heads import create_head, head_class, list_heads, load_head
from featood.heads.base import moments_head
from featood.heads.base.rows import SelectedRows
from featood.pipeline import scoring_all
from featood.pipeline.fitted_heads import find_heads
from featood.pipeline.fitting import FitPlan, fit_head
from featood.pipeline.scoring import score
from featood.pipeline.scoring_all import AllHeads, score_all
from featood.pipeline.selection import select
from featood.reporter import Reporter
from featood.testing.fixture import synthetic_sets

TRAIN, TEST = synthetic_sets()
SOME = ("energy", "knn", "mahalanobis", "msp", "vim", "weighted-energy")


def put(cache, key, data, run=None, logits=True, features=("avg", "std")):
    return import_arrays(
        cache, key, {name: data.features[name] for name in features}, data.logits if logits else None,
        data.labels, data.classifier if logits else None, run=run,
    )  # fmt: skip


def fill(root, **columns):
    """Create a cache with an in-distribution set (train, test) and an OOD set."""
    cache = FeatureCache(root)
    known, odd = np.asarray(TEST.labels) >= 0, np.asarray(TEST.labels) < 0
    put(cache, "net/news/train", TRAIN.rows(np.asarray(TRAIN.labels) >= 0), **columns)
    put(cache, "net/news/test", TEST.rows(known), **columns)
    put(cache, "net/spam/test", TEST.rows(odd), {"role": "ood"}, **columns)
    return select(cache, "net", "news")


@pytest.fixture
def few(monkeypatch):
    """List only some heads, for speed."""
    cards = list_heads()
    monkeypatch.setattr(scoring_all, "list_heads", lambda: {name: cards[name] for name in SOME})


def test_every_head_is_fitted_saved_and_scored_once(few, tmp_path):
    selection = fill(tmp_path)
    results = score_all(selection, ["spam"]).results
    # weighted-energy needs outliers, and the training set has none
    assert [row["head"] for row in results["rows"]] == ["energy", "knn", "mahalanobis", "msp", "vim"]
    (left_out,) = results["skipped"]
    assert left_out["head"] == "weighted-energy" and "outliers" in left_out["reason"]
    assert set(find_heads(selection)) == {"knn", "mahalanobis", "vim"}
    expected = load_head(find_heads(selection)["knn"]).score(selection.open("test"))
    np.testing.assert_array_equal(score_all(selection, ["spam"]).scores["knn", "news"], expected)


def test_fitted_heads_are_not_refitted_whatever_their_name(few, tmp_path):
    selection = fill(tmp_path)
    fit_head(selection, "knn", {"k": 7})
    folder = selection.cache.heads_folder("net", "news")
    fit_head(selection, "knn", {"k": 3}, FitPlan(out=folder / "near"))
    heads = AllHeads(selection)
    assert list(heads) == [*SOME, "near"] and len(heads) == 7
    assert heads["knn"].k == 7 and heads["near"].k == 3


def test_heads_are_fitted_one_at_a_time_as_they_are_scored(few, tmp_path):
    selection = fill(tmp_path)
    seen = []

    class Counting(Reporter):
        def progress(self, what, done, total, **_):
            seen.append((what, done, total, len(find_heads(selection))))

    score_all(selection, ["spam"], reporter=Counting())
    steps = [step[1:] for step in seen if step[0] == "scoring heads"]
    assert steps == [(0, 6, 0), (1, 6, 0), (2, 6, 1), (3, 6, 2), (4, 6, 2), (5, 6, 3), (6, 6, 3)]


def test_heads_with_missing_columns_or_damage_are_skipped(few, tmp_path):
    selection = fill(tmp_path, logits=False)
    fit_head(selection, "knn")
    (find_heads(selection)["knn"] / "head.safetensors").write_bytes(b"")
    results = score_all(selection, ["spam"]).results
    assert {row["head"] for row in results["rows"]} == {"mahalanobis"}
    reasons = {entry["head"]: entry["reason"] for entry in results["skipped"]}
    assert set(reasons) == set(SOME) - {"mahalanobis"}
    assert "needs logits" in reasons["energy"] and "classifier" in reasons["vim"]
    assert "fit the head again" in reasons["knn"]
    assert all("\n" not in reason for reason in reasons.values())


def test_an_error_is_raised_if_no_head_can_be_scored(few, tmp_path, monkeypatch):
    monkeypatch.setattr(scoring_all, "list_heads", lambda: {"energy": None, "msp": None})
    with pytest.raises(DataError, match=r"none of the 2 heads .* energy: energy needs logits"):
        score_all(fill(tmp_path, logits=False), ["spam"])


def test_unexpected_exceptions_of_a_head_are_not_caught(few, tmp_path, monkeypatch):
    from featood.heads.distances.knn import KNN

    def broken(self, train):
        raise ZeroDivisionError

    monkeypatch.setattr(KNN, "fit_state", broken)
    with pytest.raises(ZeroDivisionError):
        score_all(fill(tmp_path), ["spam"])


def test_command_line(few, featood, tmp_path):
    fill(tmp_path / "cache")
    code, out, err = featood("score", "--all", "--ood", "spam", "--json", "-")
    assert code == 0, err
    body = json.loads(out)
    assert len(body["rows"]) == 5 and body["skipped"][0]["head"] == "weighted-energy"
    assert "left out weighted-energy: " in err and "fitting vim" in err
    code, out, err = featood("score", "--ood", "spam", "--json", "-")
    assert code == 0 and json.loads(out)["skipped"] == [], "without --all, only fitted heads are scored"
    assert {row["head"] for row in json.loads(out)["rows"]} == {"knn", "mahalanobis", "vim"}
    code, _, err = featood("score", "--all", "--head", "msp", "--ood", "spam")
    assert code == 2 and "--all" in err
    code, out, err = featood("score", "--all", "--ood", "spam")
    assert code == 0 and "mahalanobis" in out
    code, _, err = featood("report", "--all", "--ood", "spam", "--out", tmp_path / "r.html")
    assert code == 0 and "mahalanobis" in (tmp_path / "r.html").read_text()


def test_every_quick_head_is_scored_or_skipped_with_a_reason(tmp_path):
    quick = [name for name in list_heads() if not head_class(name).testing_options]
    selection = fill(tmp_path)
    heads = AllHeads(selection)
    vars(heads)["_names"] = quick
    test, spam = selection.open("test"), selection.cache["net/spam/test"]
    results = score(heads, test, {"spam": spam}, skip_errors=True).results
    reasons = {entry["head"]: entry["reason"] for entry in results["skipped"]}
    assert sorted([*(row["head"] for row in results["rows"]), *reasons]) == sorted(quick)
    assert all(reason and "\n" not in reason for reason in reasons.values())
    assert len(results["rows"]) > 40


def test_heads_that_train_a_network_are_skipped_by_default(monkeypatch, tmp_path):
    cards = list_heads()
    names = ("compose", "heat-el", "msp")
    monkeypatch.setattr(scoring_all, "list_heads", lambda: {name: cards[name] for name in names})
    selection = fill(tmp_path)
    results = score_all(selection, ["spam"]).results
    assert [row["head"] for row in results["rows"]] == ["msp"]
    assert {entry["head"] for entry in results["skipped"]} == {"compose", "heat-el"}
    assert all("--training" in entry["reason"] for entry in results["skipped"])


def test_a_composition_uses_fitted_members(tmp_path):
    selection = fill(tmp_path)
    fitted, _ = fit_head(selection, "knn", {"k": 7})
    kept = Kept()
    options = {"members": ("knn", "mahalanobis", "energy")}
    composed, folder = fit_head(selection, "compose", options, reporter=kept)
    assert composed.members[0].startswith("knn k=7") or "k=7" in composed.members[0]
    assert any("as fitted" in line for line in kept.lines) and any(
        "fitted now" in line for line in kept.lines
    )
    test = selection.open("test")
    again = load_head(folder)
    np.testing.assert_array_equal(again.score(test), composed.score(test))
    assert np.isfinite(fitted.score(test)).all()


def test_outliers_used_in_training_cannot_be_used_for_testing(tmp_path):
    selection = fill(tmp_path)
    head, _ = fit_head(selection, "weighted-energy", plan=FitPlan(outliers="spam"))
    assert head.record.rows > len(selection.open("train"))
    known, odd = selection.open("train"), selection.cache["net/spam/test"]
    by_hand = create_head("weighted-energy").fit(
        FeatureSet(
            logits=np.concatenate([known.logits[:], odd.logits[:]]),
            labels=np.concatenate([known.labels[:], np.full(len(odd), -1)]),
        )
    )
    np.testing.assert_allclose(head.score(odd), by_hand.score(odd), rtol=1e-6)
    with pytest.raises(UsageError, match="trained on spam"):
        score({"weighted-energy": head}, selection.open("test"), {"spam": odd})
    with pytest.raises(UsageError, match="does not learn from outliers"):
        fit_head(selection, "knn", plan=FitPlan(outliers="spam"))
    with pytest.raises(UsageError, match="does not learn from outliers with these options"):
        fit_head(selection, "open-set", {"objective": "cac"}, plan=FitPlan(outliers="spam"))


def test_a_composition_inherits_the_outlier_sets_of_its_members(tmp_path):
    selection = fill(tmp_path)
    fit_head(selection, "weighted-energy", plan=FitPlan(outliers="spam"))
    _, folder = fit_head(selection, "rank-average", {"members": ("weighted-energy", "energy")})
    outer, _ = fit_head(selection, "compose", {"members": ("knn", str(folder))})
    odd = selection.cache["net/spam/test"]
    for head in (load_head(folder), outer):
        with pytest.raises(UsageError, match="trained on spam"):
            score({"composed": head}, selection.open("test"), {"spam": odd})
        assert any("outliers came from spam" in note for note in head.record.notes)


def test_heads_of_one_column_share_its_moments_and_score_as_when_fitted_alone(monkeypatch, tmp_path):
    cards, calls = list_heads(), []
    names = (
        "gem",
        "mahalanobis",
        "mahalanobis-pp",
        "neco",
        "pca-reconstruction",
        "residual",
        "rmd-pp",
        "vim",
    )
    monkeypatch.setattr(scoring_all, "list_heads", lambda: {name: cards[name] for name in names})
    add = moments_head.add_moments
    monkeypatch.setattr(
        moments_head, "add_moments", lambda head, *rest: calls.append(head.name) or add(head, *rest)
    )
    selection = fill(tmp_path)
    together = score_all(selection, ["spam"]).scores
    assert calls == ["gem", "mahalanobis-pp"]  # one column, as stored and with unit length
    for name in names:
        alone = create_head(name).fit(selection.open("train"))
        np.testing.assert_array_equal(alone.score(selection.open("test")), together[name, "news"])


def test_moments_are_not_shared_by_other_rows_columns_or_settings(tmp_path):
    selection = fill(tmp_path)
    train = selection.open("train")
    first, second = (rows_of(train.rows(slice(start, None))) for start in (0, 1))
    assert first.key is None and second.key is None  # parts of a set have no digest
    settings = [{}, {"known_only": True}, {"nonfinite": "drop"}, {"ranked": True}]
    keys = {rows_of(train, **options).key for options in settings}
    keys |= {rows_of(train, columns=("std", "labels")).key, rows_of(selection.open("test")).key}
    keys.add(rows_of(train).mapped(lambda block: block, lambda: "a space").key)
    assert len(keys) == 7 and None not in keys
    assert rows_of(train).mapped(lambda block: block).key is None
    assert rows_of(train).key == rows_of(selection.open("train")).key


def rows_of(data, columns=("avg", "labels"), **options):
    return SelectedRows(data, columns, **options)
