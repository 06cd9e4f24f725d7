"""The evaluation of detection and open-set classification, with a threshold from held-out rows."""

import csv
import json

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.metrics import f1_score, roc_auc_score

from featood.cache import FeatureCache
from featood.cache.transfer import import_arrays
from featood.errors import UsageError
from featood.metrics import open_set_at
from featood.pipeline.protocols.training_rows import training_rows
from featood.pipeline.protocols.vmdls import VMDLSPlan, evaluate_vmdls

ROWS = {"train": 300, "test": 120, "odd": 90}
OPTIONS = {"latent_feature": "mu.avg", "stages": ("early.avg",)}


@pytest.fixture
def cache(tmp_path):
    """Return a cache with two runs of one network."""
    cache = FeatureCache(tmp_path / "cache")
    keys = {"train": "news/train", "test": "news/test", "odd": "odd/test"}
    for seed in range(2):
        for kind, key in keys.items():
            rng = np.random.default_rng([seed, len(kind)])
            labels = np.arange(ROWS[kind]) % 3
            shift = 1.2 if kind == "odd" else 0.0
            mu = np.eye(3)[labels] * 3 + rng.normal(size=(len(labels), 3)) + shift
            early = rng.normal(size=(len(labels), 2)) * (1 + shift)
            columns = {"avg": mu, "mu.avg": mu, "early.avg": early}
            columns = {name: values.astype("f4") for name, values in columns.items()}
            run = {"role": "ood"} if kind == "odd" else {}
            import_arrays(cache, f"net-{seed}/{key}", columns, mu.astype("f4"), labels, run=run)
    return cache


def expected(cache, seed):
    sets = {name: cache[f"net-{seed}/{key}"] for name, key in (("train", "news/train"), ("test", "news/test"),
                                                               ("odd", "odd/test"))}  # fmt: skip
    parts = training_rows(sets["train"])

    def joined(rows):
        return np.concatenate([rows.feature("early.avg")[:], rows.feature("mu.avg")[:]], 1).astype("f8")

    known, labels = joined(parts.trained_on), np.asarray(parts.trained_on.labels[:])
    members = [known[labels == c] for c in range(3)]
    unit = np.mean(sum(((one - one.mean(0)) ** 2).sum(0) for one in members) / len(known))
    normals = [multivariate_normal(one.mean(0), np.cov(one.T) + 1e-6 * unit * np.eye(5)) for one in members]
    densities = {name: np.stack([normal.logpdf(joined(rows)) for normal in normals], 1)
                 for name, rows in {**sets, "held": parts.held_out, "known": parts.trained_on}.items()}  # fmt: skip
    scores = {name: densities["known"].max() + 1 - values.max(1) for name, values in densities.items()}
    threshold = np.sort(scores["held"])[int(np.ceil(0.95 * len(scores["held"]))) - 1]
    decided = {
        name: np.where(scores[name] > threshold, 3, densities[name].argmax(1)) for name in ("test", "odd")
    }
    truth = np.asarray(sets["test"].labels[:])
    wrong = decided["test"] != truth
    correct = densities["test"].argmax(1) == truth

    def area(ids):
        return roc_auc_score(np.r_[np.zeros(len(ids)), np.ones(90)], np.r_[ids, scores["odd"]])

    def f1(t):
        rejected = [np.where(scores[name] > t, 3, densities[name].argmax(1)) for name in ("test", "odd")]
        return f1_score(np.r_[truth, np.full(90, 3)], np.concatenate(rejected), average="macro")

    accepting = np.sort(scores["test"])[int(np.ceil(0.95 * 120)) - 1]
    return {
        "threshold": threshold,
        "f1_macro": f1(threshold),
        "known_accuracy": 1 - wrong.mean(),
        "unknown_accuracy": (decided["odd"] == 3).mean(),
        "open_mistakes": (decided["test"][wrong] == 3).mean(),
        "accepted": (decided["test"] < 3).mean(),
        "closed_accuracy": correct.mean(),
        "f1_best": max(f1(t) for t in np.r_[scores["test"], scores["odd"]]),
        "auroc": area(scores["test"]),
        "cauroc": area(scores["test"][correct]),
        "fpr95": (scores["odd"] <= accepting).mean(),
    }


def test_metrics_of_each_run_and_their_moments(cache):
    rows, failed = evaluate_vmdls(cache, ["net-*"], VMDLSPlan(outliers=["odd"], options=OPTIONS))
    assert not failed and len(rows) == 1
    (row,) = rows
    assert (row["network"], row["ood"], row["runs"]) == ("net", "odd", 2)
    runs = [expected(cache, seed) for seed in range(2)]
    for name in runs[0]:
        values = [run[name] for run in runs]
        np.testing.assert_allclose(row[f"{name}_values"], values, rtol=1e-5, err_msg=name)
        assert row[name] == pytest.approx(np.mean(values), rel=1e-5)
        assert row[f"{name}_se"] == pytest.approx(np.std(values, ddof=1) / np.sqrt(2), rel=1e-3, abs=1e-9)


def test_the_command_writes_files_and_a_table(featood, cache, tmp_path):
    out = tmp_path / "out"
    code, text, err = featood("evaluate", "vmdls", "net-*", "--cache", str(cache.root), "--ood", "odd",
                              "--latent-feature", "mu.avg", "--stages", "early.avg", "--out", str(out))  # fmt: skip
    assert code == 0, err
    assert "threshold" in text and "±" in text and "held out" in err
    (row,) = csv.DictReader((out / "table.csv").open())
    (stored,) = json.loads((out / "results.json").read_text())["rows"]
    want = [expected(cache, seed)["auroc"] for seed in range(2)]
    assert float(row["auroc"]) == pytest.approx(np.mean(want)) and stored["auroc_values"] == pytest.approx(
        want
    )
    assert f"{100 * np.mean(want):.2f}" in " ".join(text.split())


def test_a_column_that_no_run_has(cache):
    plan = VMDLSPlan(outliers=["odd"], options={"latent_feature": "nowhere"})
    with pytest.raises(UsageError, match="has no feature column 'nowhere'"):
        evaluate_vmdls(cache, ["net-*"], plan)


def test_a_threshold_that_accepts_everything_or_nothing():
    given = ([1.0, 2.0, 3.0], [2.5, 4.0], [0, 1, 0], [1, 0], [0, 1, 1])
    every, none = open_set_at(9.0, *given), open_set_at(0.0, *given)
    assert (every["known_accuracy"], every["unknown_accuracy"], every["open_mistakes"]) == (2 / 3, 0, 0)
    assert (none["known_accuracy"], none["unknown_accuracy"], none["open_mistakes"]) == (0, 1, 1)
    assert open_set_at(9.0, [1.0], [2.0], [0], [0], [0])["open_mistakes"] == 0
