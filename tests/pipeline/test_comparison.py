import csv
import json

import numpy as np
import pytest
from scipy.stats import binomtest, rankdata

from featood.cache import FeatureCache
from featood.cache.transfer import import_arrays
from featood.errors import UsageError
from featood.heads import create_head
from featood.metrics import delong_difference, delong_interval, detection_metrics, holm
from featood.pipeline.comparison import Uncertainty
from featood.pipeline.scoring import ScorePlan, score, score_selection
from featood.pipeline.selection import select
from featood.report import comparison_lines, interval_plot, png, rank_plot, svg, write_report
from featood.testing.fixture import synthetic_sets

TRAIN, TEST = synthetic_sets()
HEADS = ("msp", "energy", "knn", "norm")
SETS = ("spam", "junk", "noise")


@pytest.fixture
def selection(tmp_path):
    cache = FeatureCache(tmp_path / "cache")
    known, odd = (TEST.rows(np.asarray(TEST.labels) >= 0), TEST.rows(np.asarray(TEST.labels) < 0))

    def put(key, data, shift=0.0, **rest):
        values = np.asarray(data.features["avg"]) + np.float32(shift)
        logits = None if data.logits is None else np.asarray(data.logits) - np.float32(shift)
        import_arrays(cache, key, {"avg": values}, logits, data.labels, data.classifier, **rest)

    put("net/news/train", TRAIN.rows(np.asarray(TRAIN.labels) >= 0))
    put("net/news/test", known)
    for name, shift in zip(SETS, (0.0, 0.1, 0.2), strict=True):
        put(f"net/{name}/test", odd, shift, run={"role": "ood"})
    return select(cache, "net", "news")


@pytest.fixture
def fitted(selection, featood):
    code, _, err = featood("fit", "knn")
    assert code == 0, err
    return selection


def scored(selection, how, heads=HEADS, sets=SETS):
    test = selection.open("test")
    others = {name: selection.cache[f"net/{name}/test"] for name in sets}
    made = {name: create_head(name) for name in heads}
    for head in made.values():
        if head.card.learns:
            head.fit(selection.open("train"))
    return score(made, test, others, intervals=how)


def test_rows_get_delong_intervals_and_the_accuracy_an_exact_binomial_interval(selection):
    scoring = scored(selection, Uncertainty(level=0.9))
    for row in scoring.results["rows"]:
        pair = scoring.scores[row["head"], "news"], scoring.scores[row["head"], row["ood"]]
        assert (row["auroc"], row["auroc_low"], row["auroc_high"]) == pytest.approx(
            delong_interval(pair, 0.9)
        )
        assert "fpr95_low" not in row
    about = scoring.results["id"]
    exact = binomtest(round(about["accuracy"] * about["n"]), about["n"]).proportion_ci(0.9)
    assert (about["accuracy_low"], about["accuracy_high"]) == pytest.approx(tuple(exact))
    assert "comparison" not in scored(selection, None).results


def test_tests_are_paired_and_corrected_for_all_pairs(selection):
    scoring = scored(selection, Uncertainty())
    comparison = scoring.results["comparison"]
    assert {test["ood"] for test in comparison["tests"]} == {*SETS, "mean"}
    mine = [test for test in comparison["tests"] if test["ood"] == "junk"]
    values = {row["head"]: row["auroc"] for row in scoring.results["rows"] if row["ood"] == "junk"}
    best = max(values, key=values.get)
    assert {test["best"] for test in mine} == {best} and {test["head"] for test in mine} == {*HEADS} - {best}
    pairs = {
        (a, b): delong_difference(*[(scoring.scores[h, "news"], scoring.scores[h, "junk"]) for h in (a, b)])
        for i, a in enumerate(HEADS)
        for b in HEADS[i + 1 :]
    }
    corrected = dict(zip(pairs, holm([found.p for found in pairs.values()]), strict=True))
    for test in mine:
        pair = next(pair for pair in pairs if set(pair) == {test["head"], best})
        assert test["p"] == pytest.approx(pairs[pair].p) and test["p_holm"] == pytest.approx(corrected[pair])
        assert test["difference"] == pytest.approx(values[test["head"]] - values[best])
        assert test["low"] <= test["difference"] <= test["high"]


def test_the_bootstrap_gives_every_metric_an_interval_and_the_means_share_their_id_rows(selection):
    how = Uncertainty("bootstrap", resamples=40, seed=3)
    scoring = scored(selection, how, ("msp", "norm"), ("spam", "junk"))
    row = scoring.results["rows"][0]
    inside = scoring.scores["msp", "news"]
    draws = {}
    for name in ("spam", "junk"):
        values = scoring.scores["msp", name]
        id_rows = np.random.default_rng([3]).integers(len(inside), size=(40, len(inside)))
        ood_rows = np.random.default_rng([3, *name.encode()]).integers(len(values), size=(40, len(values)))
        draws[name] = [
            detection_metrics(inside[i], values[o]) for i, o in zip(id_rows, ood_rows, strict=True)
        ]
    for key, value in detection_metrics(inside, scoring.scores["msp", "spam"]).items():
        expected = np.quantile([draw[key] for draw in draws["spam"]], [0.025, 0.975])
        assert row[key] == value and [row[f"{key}_low"], row[f"{key}_high"]] == pytest.approx(
            expected.tolist()
        )
    both = [(one["fpr95"] + two["fpr95"]) / 2 for one, two in zip(*draws.values(), strict=True)]
    mean = scoring.results["comparison"]["means"][0]
    expected = np.quantile(both, [0.025, 0.975]).tolist()
    assert [mean["fpr95_low"], mean["fpr95_high"]] == pytest.approx(expected)
    tests = {(test["ood"], test["metric"]): test for test in scoring.results["comparison"]["tests"]}
    assert len(tests) == 3 * 7
    # for metrics where lower is better, the best head has the lowest value
    assert tests["spam", "fpr95"]["difference"] >= 0 >= tests["spam", "auroc"]["difference"]


@pytest.mark.parametrize("method", ["delong", "bootstrap"])
def test_near_and_far_sets_have_intervals_of_their_own(tmp_path, method):
    cache = FeatureCache(tmp_path)
    parts = {"cifar10": TEST.rows(np.asarray(TEST.labels) >= 0)}
    odd = TEST.rows(np.asarray(TEST.labels) < 0)
    parts |= dict.fromkeys(("svhn", "tiny-imagenet", "cifar100"), odd)
    for number, (name, part) in enumerate(parts.items()):
        values = np.asarray(part.features["avg"]) + np.float32(number / 10)
        import_arrays(cache, f"net/{name}/test", {"avg": values}, np.asarray(part.logits) * (1 - number / 10))
    sets = {name: cache[f"net/{name}/test"] for name in parts}
    test, how = sets.pop("cifar10"), Uncertainty(method, resamples=30)
    heads = {name: create_head(name) for name in ("msp", "norm")}
    comparison = score(heads, test, sets, intervals=how).results["comparison"]
    near = {name: sets[name] for name in ("cifar100", "tiny-imagenet")}
    alone = score(heads, test, near, intervals=how).results["comparison"]
    assert alone["groups"] == []  # near is all that was scored

    def bounds(entries, *names):
        return {
            (entry["head"], key): value
            for entry in entries
            for key, value in entry.items()
            if set(entry["sets"]) == set(names) and key.endswith(("_low", "_high"))
        }

    expected = bounds(alone["means"], *near)
    assert len(expected) >= 4 and bounds(comparison["groups"], *near) == pytest.approx(expected)
    assert bounds(comparison["groups"], "svhn").keys() == expected.keys()


def test_missing_tests_are_reported(selection):
    few = scored(selection, Uncertainty(), ("msp", "knn"), SETS).results
    assert "ranking" not in few["comparison"]
    assert (
        comparison_lines(few)[-1].startswith("Not tested: the test of ranks over sets")
        and "3 and 2" in comparison_lines(few)[-1]
    )
    alone = scored(selection, Uncertainty(), ("msp",), ("spam",)).results
    assert alone["comparison"]["tests"] == alone["comparison"]["means"] == []
    assert comparison_lines(alone)[0] == "Not tested: with one head, there is nothing to compare."
    assert comparison_lines(scored(selection, None).results) == []
    for wrong in ({"method": "wald"}, {"level": 1.0}, {"resamples": 0}):
        with pytest.raises(UsageError, match="intervals"):
            Uncertainty(**wrong)


def test_seeds_of_one_head_are_ranked_as_one(selection):
    test = selection.open("test")
    others = {name: selection.cache[f"net/{name}/test"] for name in SETS}
    heads = {f"rnd@seed={seed}": create_head(name) for seed, name in enumerate(("norm", "entropy"))}
    heads |= {"msp": create_head("msp"), "energy": create_head("energy")}
    results = score(heads, test, others, intervals=Uncertainty()).results
    values = {
        ood: {
            "rnd": np.mean(
                [row["auroc"] for row in results["rows"] if row["head"][:3] == "rnd" and row["ood"] == ood]
            ),
            **{
                row["head"]: row["auroc"]
                for row in results["rows"]
                if "@" not in row["head"] and row["ood"] == ood
            },
        }
        for ood in SETS
    }
    expected = np.mean([rankdata([-value for value in one.values()]) for one in values.values()], 0)
    ranks = results["comparison"]["ranking"]["mean_ranks"]
    assert ranks == pytest.approx(dict(zip(("rnd", "msp", "energy"), expected, strict=True)))


def test_intervals_are_in_the_table_json_csv_and_report(fitted, featood, tmp_path):
    paths = [tmp_path / name for name in ("r.json", "r.csv", "r.html")]
    words = [word for head in HEADS for word in ("--head", head)]
    code, out, err = featood(
        "score", *words, "--ood", ",".join(SETS), "--intervals", "delong", "--confidence", "90",
        "--json", paths[0], "--csv", paths[1], "--report", paths[2],
    )  # fmt: skip
    assert code == 0, err
    results = json.loads(paths[0].read_text())
    assert results["schema"] == 1 and results["comparison"]["level"] == 0.9
    assert max(map(len, out.splitlines())) <= 100
    row = results["rows"][0]
    shown = f"{100 * row['auroc']:.2f} [{100 * row['auroc_low']:.2f}, {100 * row['auroc_high']:.2f}]"
    mean = results["comparison"]["means"][0]
    bounds = f"[{100 * mean['auroc_low']:.2f}, {100 * mean['auroc_high']:.2f}]"
    for text in (out, paths[2].read_text()):
        assert shown in text and bounds in text and "90 % intervals of AUROC" in text
        assert "Best by mean AUROC" in text and "(Friedman, p" in " ".join(text.split())
    read = list(csv.DictReader(paths[1].open()))
    assert [float(line["auroc_low"]) for line in read] == [line["auroc_low"] for line in results["rows"]]
    page = paths[2].read_text()
    assert "Which heads differ" in page and "mean rank (1 = best)" in page
    code, out, _ = featood("score", "--head", "knn", "--ood", "spam", "--json", "-")
    assert code == 0 and "comparison" not in json.loads(out) and "auroc_low" not in json.loads(out)["rows"][0]


def test_a_table_with_bootstrap_intervals_fits_a_narrow_terminal(fitted, featood, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, err = featood(
        "score",
        "--head",
        "knn",
        "--head",
        "msp",
        "--ood",
        "spam",
        "--intervals",
        "bootstrap",
        "--resamples",
        "20",
    )
    assert code == 0, err
    assert max(map(len, out.splitlines())) <= 80
    assert "95 % intervals of 20 bootstrap resamples" in out and "FPR95" in out and out.count("[") > 4


@pytest.mark.parametrize(
    "words",
    [
        ("--confidence", "90"),
        ("--resamples", "10"),
        ("--intervals", "delong", "--resamples", "10"),
        ("--intervals", "bootstrap", "--confidence", "100"),
        ("--intervals", "wald"),
    ],
)
def test_incompatible_options_are_refused(fitted, featood, words):
    code, _, err = featood("score", "--head", "knn", "--ood", "spam", *words)
    assert code == 2 and "--" in err


def test_names_are_escaped_in_the_page_and_the_figures(tmp_path, selection):
    results = scored(selection, Uncertainty()).results
    names = ["<b>knn</b>", "[red]x", "a$b$\\frac{", "_y"]
    renamed = json.loads(json.dumps(results))
    for old, new in zip(HEADS, names, strict=True):
        renamed = json.loads(json.dumps(renamed).replace(json.dumps(old), json.dumps(new)))
    write_report(tmp_path / "r.html", renamed, {})
    page = (tmp_path / "r.html").read_text()
    assert "<b>knn" not in page and "&lt;b&gt;knn" in page
    rows = [
        {"head": name, "auroc": v, "auroc_low": v, "auroc_high": v}
        for name, v in zip(names, (1, 1, 0.5, 0), strict=True)
    ]
    for convert, start in ((svg, b"<svg"), (png, b"\x89PNG")):
        assert convert(interval_plot(rows)).startswith(start)
        assert convert(rank_plot(dict.fromkeys(names, 1.0), [names])).startswith(start)


def test_score_selection_computes_intervals(fitted):
    results = score_selection(
        fitted, ["knn", "msp"], ["spam"], how=ScorePlan(intervals=Uncertainty())
    ).results
    assert results["comparison"]["method"] == "delong" and results["rows"][0]["auroc_low"] < 1
