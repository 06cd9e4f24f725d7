import itertools
import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from featood.cache import FeatureCache, FeatureSet
from featood.cache.transfer import import_arrays
from featood.errors import DataError, UsageError
from featood.heads import create_head, load_head
from featood.pipeline.derived_sets import hold_out
from featood.pipeline.fitting import FitPlan, fit_head
from featood.pipeline.leakage import overlap
from featood.pipeline.scoring import ScorePlan, evaluate, score_selection
from featood.pipeline.selection import select
from featood.pipeline.tuning import TunePlan, tune_head
from featood.testing.fixture import synthetic_sets

KNOWN = [data.rows(np.asarray(data.labels) >= 0) for data in synthetic_sets()]
ODD = [data.rows(np.asarray(data.labels) < 0) for data in synthetic_sets(outliers=60)]
GRID = {"k": [1, 20], "space": ["l2", "none"]}


def put(cache, key, data, run=None):
    features = {name: data.features[name] for name in ("avg", "std")}
    return import_arrays(
        cache, key, features, data.logits, data.labels, data.classifier, run=run or {}, overwrite=True
    )


def fill(root, splits=("train", "test")):
    """Create a cache with an in-distribution set and two OOD sets."""
    cache = FeatureCache(root)
    parts = {"train": KNOWN[0], "test": KNOWN[1], "val": KNOWN[1].rows(slice(0, 30))}
    for split in splits:
        put(cache, f"net/news/{split}", parts[split])
    put(cache, "net/spam/test", ODD[0], {"role": "ood"})
    put(cache, "net/junk/test", ODD[1], {"role": "ood"})
    return select(cache, "net", "news")


def auroc(head, known, odd):
    scores = [head.score(rows) for rows in (known, odd)]
    return roc_auc_score(np.repeat([0, 1], [len(part) for part in scores]), np.concatenate(scores))


def naive_rows(train, validation, odd):
    found = []
    for k, space in itertools.product(*GRID.values()):
        head = create_head("knn", k=k, space=space).fit(train)
        found.append(auroc(head, validation, odd))
    return found


def split_by_hand(share=0.1, seed=0):
    train = KNOWN[0]
    held = np.random.default_rng(seed).permutation(len(train))[: round(share * len(train))]
    mask = np.isin(np.arange(len(train)), held)
    return train.rows(~mask), train.rows(mask)


# ---- the search


@pytest.mark.parametrize("splits", [("train", "test"), ("train", "val", "test"), ("train", "val")])
def test_points_are_fitted_and_validated_on_different_rows(tmp_path, splits):
    selection = fill(tmp_path, splits)
    found = tune_head(selection, "knn", GRID, TunePlan("spam"))
    if len(splits) == 3:
        kept, held = KNOWN[0], KNOWN[1].rows(slice(0, 30))
        where = "net/news/val"
    else:  # without a test split, the val split is the test split
        kept, held = split_by_hand()
        where = "30 rows held out of net/news/train"
    expected = naive_rows(kept, held, ODD[0])
    np.testing.assert_allclose([row.metrics["auroc"] for row in found.rows], expected, atol=1e-12)
    assert found.best is found.rows[int(np.argmax(expected))]
    assert found.head.record.tuned == {
        "on": "spam",
        "inputs": found.head.record.tuned["inputs"],
        "validated_on": where,
        "test_ood": [],
        "metric": "auroc",
        "value": max(expected),
        "grid": GRID,
    }
    # the head is fitted on the complete train split
    best = create_head("knn", **found.best.options).fit(KNOWN[0])
    loaded = load_head(found.folder)
    np.testing.assert_array_equal(loaded.score(KNOWN[1], force=True), best.score(KNOWN[1]))
    assert loaded.record == found.head.record and loaded.record.rows == len(KNOWN[0])


def test_the_test_split_is_never_read(tmp_path, monkeypatch):
    selection = fill(tmp_path, ("train", "val", "test"))
    opened, get = [], FeatureCache.__getitem__
    monkeypatch.setattr(FeatureCache, "__getitem__", lambda self, key: opened.append(key) or get(self, key))
    tune_head(selection, "knn", GRID, TunePlan("spam"))
    assert set(opened) == {"net/news/train", "net/news/val", "net/spam/test"}


@pytest.mark.parametrize(("splits", "split"), [(("train", "test"), "test"), (("train", "val"), "val")])
def test_the_split_used_for_results_cannot_be_tuned_on(tmp_path, splits, split):
    with pytest.raises(UsageError, match="featood score uses"):
        tune_head(fill(tmp_path, splits), "knn", GRID, TunePlan("spam"), FitPlan(split=split))


def test_a_metric_where_lower_is_better(tmp_path):
    found = tune_head(fill(tmp_path), "knn", GRID, TunePlan("spam", "fpr95"))
    assert found.best.metrics["fpr95"] == min(row.metrics["fpr95"] for row in found.rows)
    assert len({row.metrics["fpr95"] for row in found.rows}) > 1


def test_the_first_of_equal_points_is_chosen(tmp_path):
    found = tune_head(fill(tmp_path), "knn", {"nonfinite": ["drop", "error"]}, TunePlan("spam"))
    assert found.best.options == {"nonfinite": "drop"}


def test_the_seed_determines_the_held_out_rows(tmp_path):
    selection = fill(tmp_path)
    first, second, other = (
        tune_head(selection, "knn", GRID, TunePlan("spam", seed=seed)).rows for seed in (3, 3, 4)
    )
    aurocs = [[row.metrics["auroc"] for row in rows] for rows in (first, second, other)]
    assert aurocs[0] == aurocs[1] != aurocs[2]


def test_heads_without_a_fit_can_be_tuned(tmp_path):
    found = tune_head(fill(tmp_path), "energy", {"temperature": [0.5, 1.0, 10.0]}, TunePlan("spam"))
    _, held = split_by_hand()
    expected = [auroc(create_head("energy", temperature=t), held, ODD[0]) for t in (0.5, 1.0, 10.0)]
    np.testing.assert_allclose([row.metrics["auroc"] for row in found.rows], expected)


def test_a_point_that_fails_does_not_stop_the_others(tmp_path):
    found = tune_head(fill(tmp_path), "vim", {"dim": [24, 4]}, TunePlan("spam"))
    assert "24 dimensions" in found.rows[0].error and found.best.options == {"dim": 4}
    with pytest.raises(DataError, match="every point of the grid failed"):
        tune_head(fill(tmp_path), "vim", {"dim": [24, 30]}, TunePlan("spam"))


@pytest.mark.parametrize(
    ("name", "grid", "metric", "text"),
    [
        ("knn", {"kk": [1]}, "auroc", "no option 'kk'"),
        ("knn", {"k": [5, 0]}, "auroc", "at least 1"),
        ("knn", {}, "auroc", "empty"),
        ("knn", {"k": []}, "auroc", "no values for k"),
        ("knn", GRID, "auc", "unknown metric 'auc'"),
        ("knnn", GRID, "auroc", "knn"),
    ],
)
def test_invalid_arguments_raise_before_any_fit(tmp_path, monkeypatch, name, grid, metric, text):
    selection = fill(tmp_path)
    monkeypatch.setattr("featood.heads.base.head.Head.fit", None)
    with pytest.raises(UsageError, match=text):
        tune_head(selection, name, grid, TunePlan("spam", metric))


# ---- separation of validation and test sets


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("cifar100", "cifar100", True),
        ("CIFAR100", "cifar100", True),
        ("cifar100", "cifar10", False),
        ("cifar100", "cifar100:0-49", True),
        ("cifar100:0-49", "cifar100:50-99", False),
        ("cifar100:0,3,7-9", "cifar100:8", True),
        ("cifar100:0,3,7-9", "cifar100:4-6", False),
        ("noise:uniform,n=5", "noise:gaussian", True),
    ],
)
def test_overlap(first, second, same):
    assert overlap(first, second) is overlap(second, first) is same


def test_a_test_set_cannot_be_the_validation_set(tmp_path):
    selection = fill(tmp_path)
    with pytest.raises(UsageError, match="in-distribution"):
        tune_head(selection, "knn", GRID, TunePlan("news"))
    with pytest.raises(UsageError, match="spam is a test set"):
        tune_head(selection, "knn", GRID, TunePlan("spam", test_ood=["junk", "spam"]))
    tune_head(selection, "knn", GRID, TunePlan("spam", test_ood=["junk"]))
    with pytest.raises(UsageError, match="junk is a test set"):
        tune_head(selection, "mahalanobis", {"ridge": [1e-6, 1e-3]}, TunePlan("junk"))
    fit_head(selection, "knn", plan=FitPlan(overwrite=True))  # this also removes the record
    tune_head(selection, "mahalanobis", {"ridge": [1e-6, 1e-3]}, TunePlan("junk"))


def test_a_tuned_head_is_not_tested_on_its_validation_set(tmp_path):
    selection = fill(tmp_path)
    head = tune_head(selection, "knn", GRID, TunePlan("spam")).head
    with pytest.raises(UsageError, match="was tuned on spam"):
        score_selection(selection, ["knn", "msp"], ["spam"])
    put(selection.cache, "net/renamed/test", ODD[0], {"role": "ood"})
    with pytest.raises(UsageError, match="was tuned on spam, so renamed"):  # the same rows
        score_selection(selection, ["knn"], ["renamed"])
    with pytest.raises(UsageError, match="was tuned on spam"):
        evaluate(head, selection.open("test"), {"spam": selection.cache["net/spam/test"]})
    results = score_selection(selection, ["knn", "msp"], ["junk"]).results
    marks = {row["head"]: row.get("ood_validated") for row in results["rows"]}
    assert marks == {"knn": "spam", "msp": None}
    assert results["warnings"] == ["knn: options were chosen on spam: results are OOD-validated"]
    forced = score_selection(selection, ["knn"], ["spam"], how=ScorePlan(force=True)).results
    assert forced["rows"][0]["ood_validated"] == "spam"
    _, folder = fit_head(selection, "knn", head.options)  # the same options given by the user are not marked
    assert folder.name != "knn"  # and the tuned head is kept
    assert "ood_validated" not in score_selection(selection, [folder.name], ["spam"]).results["rows"][0]


def test_the_card_contains_a_note_on_tuning(tmp_path):
    folder = tune_head(fill(tmp_path), "knn", GRID, TunePlan("spam")).folder
    assert "options were chosen on spam" in (folder / "README.md").read_text()


# ---- holding out


@pytest.mark.parametrize("on_disk", [True, False])
def test_hold_out_splits_the_rows(tmp_path, on_disk):
    data = put(FeatureCache(tmp_path), "net/news/train", KNOWN[0]) if on_disk else KNOWN[0]
    for part, expected in zip(hold_out(data, 0.25, 7), split_by_hand(0.25, 7), strict=True):
        assert len(part) == len(expected)
        for size in (7, 4096):
            blocks = list(part.blocks(size))
            for name in ("avg", "std"):
                found = np.concatenate([block.features[name] for block in blocks])
                np.testing.assert_array_equal(found, expected.features[name])
            labels = np.concatenate([block.labels for block in blocks])
            np.testing.assert_array_equal(labels, expected.labels)
        if not on_disk:
            np.testing.assert_array_equal(part.ids[:], expected.ids)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.999])
def test_hold_out_refuses_empty_parts(share):
    with pytest.raises(DataError, match="leaves nothing"):
        hold_out(FeatureSet({"x": np.zeros((20, 2))}), share, 0)


# ---- command line


def test_command_line(featood, tmp_path):
    fill(tmp_path / "cache")
    words = ("tune", "knn", "--grid", "k=1,20", "--grid", "space=l2,none", "--validation-ood", "spam")
    code, out, err = featood(*words)
    assert code == 0, err
    assert out.count("*") == 1 and "space" in out and "saved in" in out and "4 points" in err
    code, out, err = featood(*words, "--metric", "fpr95", "--test-ood", "junk", "--json", "-")
    assert code == 0, err
    body = json.loads(out)
    assert body["head"] == "knn" and body["on"] == "spam" and body["test_ood"] == ["junk"]
    assert [row["options"] for row in body["rows"]] == [
        {"k": k, "space": space} for k in (1, 20) for space in ("l2", "none")
    ]
    assert body["best"] == min(body["rows"], key=lambda row: row["fpr95"])["options"]
    code, _, err = featood("score", "--ood", "spam,junk")
    assert code == 2 and "--force" in err
    code, out, err = featood("score", "--ood", "junk", "--csv", "-")
    assert code == 0 and "ood_validated" in out and "OOD-validated" in err


@pytest.mark.parametrize(
    ("grid", "text"),
    [
        (("k=1", "k=2"), "twice"),
        (("k=1,many",), "'many' is not a value for k"),
        (("neighbours=1",), "no option 'neighbours'"),
        (("k",), "a grid is written option=value"),
        (("k=0",), "at least 1"),
    ],
)
def test_command_line_misuse(featood, tmp_path, grid, text):
    fill(tmp_path / "cache")
    words = itertools.chain.from_iterable(("--grid", part) for part in grid)
    code, _, err = featood("tune", "knn", *words, "--validation-ood", "spam")
    assert code == 2 and text in err and "Traceback" not in err


def test_lists_in_a_grid(featood, tmp_path):
    fill(tmp_path / "cache")
    code, out, err = featood(
        "tune", "fisher", "--grid", "members=knn k=5+energy,msp", "--validation-ood", "spam", "--json", "-"
    )
    assert code == 0, err
    rows = json.loads(out)["rows"]
    assert [row["options"]["members"] for row in rows] == [["knn k=5", "energy"], ["msp"]]
