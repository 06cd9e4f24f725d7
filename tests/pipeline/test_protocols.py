import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from reporters import Kept
from scipy.optimize import minimize_scalar
from scipy.special import digamma, logsumexp, softmax
from scipy.stats import dirichlet, entropy, multivariate_normal
from sklearn.metrics import average_precision_score, roc_auc_score

from featood.cache import FeatureCache
from featood.cache.transfer import import_arrays
from featood.data.catalogue import suites
from featood.errors import DataError, UsageError
from featood.extractors.trainer import held_out_rows
from featood.heads import create_head
from featood.pipeline.fitted_heads import find_heads
from featood.pipeline.protocols.ddu import DDUPlan, ddu_rows, evaluate_ddu
from featood.pipeline.protocols.heat import HEATPlan, evaluate_heat
from featood.pipeline.protocols.runs import evaluate_runs, find_networks, summary
from featood.pipeline.protocols.thesis import SCORES, ThesisPlan, evaluate_thesis, mean_rows
from featood.pipeline.protocols.training_rows import training_rows
from featood.pipeline.selection import select

ROWS = {"train": 300, "test": 120, "odd": 90}


def values(seed, kind, noise=1.2):
    """Features, logits and labels of one run; the labels are those of every run."""
    rng = np.random.default_rng([seed, len(kind)])
    labels = np.arange(ROWS[kind]) % 3
    shift = 1.5 if kind == "odd" else 0.0
    features = np.eye(4)[labels] * 2 + noise * rng.normal(size=(ROWS[kind], 4)) + shift
    logits = 2 * features[:, :3] - shift + rng.normal(size=(ROWS[kind], 3))
    return features.astype("f4"), logits.astype("f4"), labels


@pytest.fixture
def cache(tmp_path):
    """Return a cache with four runs of one network."""
    cache = FeatureCache(tmp_path / "cache")
    keys = {"train": "news/train", "test": "news/test", "odd": "odd/test"}
    for seed in range(4):
        for kind, key in keys.items():
            run = {"role": "ood"} if kind == "odd" else {}
            features, logits, labels = values(seed, kind)
            import_arrays(cache, f"net-{seed}/{key}", {"avg": features}, logits, labels, run=run)
    return cache


def by_kind(evaluations):
    return {evaluation.kind: evaluation for evaluation in evaluations}


def temperature(logits, labels):
    def nll(beta):
        return np.mean(logsumexp(beta * logits, axis=1) - beta * logits[np.arange(len(labels)), labels])

    return 1 / minimize_scalar(nll, bounds=(0.05, 20), method="bounded", options={"xatol": 1e-10}).x


def ece(p, labels):
    confidence, correct = p.max(1), p.argmax(1) == labels
    total = 0.0
    for low in np.arange(15) / 15:
        inside = (confidence > low) & (confidence <= low + 1 / 15)
        if inside.any():
            total += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean())
    return total


def detection(id_scores, ood_scores, id_positive=False):
    scores = np.concatenate([id_scores, ood_scores]).astype(float)
    truth = np.r_[np.zeros(len(id_scores)), np.ones(len(ood_scores))]
    positive = (1 - truth, -scores) if id_positive else (truth, scores)
    return roc_auc_score(truth, scores), average_precision_score(*positive)


def test_softmax_and_density_of_each_run(cache):
    plan = DDUPlan(outliers=["odd"], members=2)
    found = by_kind(evaluate_ddu(cache, ["net-*"], plan))
    assert list(found) == ["softmax", "gmm", "ensemble"]
    assert {evaluation.network for evaluation in found.values()} == {"net"}
    for seed in range(4):
        test, odd = values(seed, "test"), values(seed, "odd")
        kept, held, _ = training_rows(FeatureCache(cache.root)[f"net-{seed}/news/train"])
        t = temperature(np.asarray(held.logits[:], float), np.asarray(held.labels[:]))
        for prefix, scale in (("", 1.0), ("t_", t)):
            logits, others = test[1].astype(float) / scale, odd[1].astype(float) / scale
            m1 = detection(-logsumexp(logits, axis=1), -logsumexp(others, axis=1), id_positive=True)
            m2 = detection(entropy(softmax(logits, 1), axis=1), entropy(softmax(others, 1), axis=1))
            results = found["softmax"].results["values"]
            expected = {"m1_auroc": m1[0], "m1_auprc": m1[1], "m2_auroc": m2[0], "m2_auprc": m2[1]}
            expected["ece"] = ece(softmax(logits, 1), test[2])
            for name, value in expected.items():
                assert results[prefix + name][seed] == pytest.approx(value, abs=1e-6), name
        assert results["accuracy"][seed] == np.mean(test[1].argmax(1) == test[2])

        x, y = np.asarray(kept.feature()[:], float), np.asarray(kept.labels[:])

        def joint(rows, x=x, y=y):
            parts = [x[y == c] for c in range(3)]
            densities = [multivariate_normal(part.mean(0), np.cov(part.T)).logpdf(rows) for part in parts]
            return np.stack(densities, 1) + np.log([len(part) / len(x) for part in parts])

        inside, outside = joint(test[0].astype(float)), joint(odd[0].astype(float))
        m1 = detection(-logsumexp(inside, axis=1), -logsumexp(outside, axis=1), id_positive=True)
        m2 = detection(entropy(softmax(inside, 1), axis=1), entropy(softmax(outside, 1), axis=1))
        results = found["gmm"].results["values"]
        for prefix in ("", "t_"):
            for name, value in zip(("m1_auroc", "m1_auprc", "m2_auroc", "m2_auprc"), (*m1, *m2), strict=True):
                assert results[prefix + name][seed] == pytest.approx(value, abs=1e-9), name
        assert results["ece"] == found["softmax"].results["values"]["ece"]


def test_ensembles_are_of_consecutive_runs(cache):
    (found,) = evaluate_ddu(cache, ["net-*"], DDUPlan(outliers=["odd"], members=2, kinds=["ensemble"]))
    assert found.results["info"]["runs"] == ["net-0 + net-1", "net-2 + net-3"]
    assert found.file == "res_net_ensemble_news_odd.json"
    for unit, seeds in enumerate(((0, 1), (2, 3))):
        p = {
            kind: np.stack([softmax(values(seed, kind)[1].astype(float), 1) for seed in seeds])
            for kind in ("test", "odd")
        }
        total = {kind: entropy(draws.mean(0), axis=1) for kind, draws in p.items()}
        epistemic = {kind: total[kind] - entropy(draws, axis=2).mean(0) for kind, draws in p.items()}
        results = found.results["values"]
        for name, scores in (("m1", epistemic), ("m2", total)):
            auroc, auprc = detection(scores["test"], scores["odd"])
            assert results[f"{name}_auroc"][unit] == pytest.approx(auroc, abs=1e-9)
            assert results[f"{name}_auprc"][unit] == pytest.approx(auprc, abs=1e-9)
        assert results["ece"][unit] == pytest.approx(ece(p["test"].mean(0), values(0, "test")[2]), abs=1e-9)


def test_moments_over_the_runs(cache):
    found = evaluate_ddu(cache, ["all=net-*"], DDUPlan(outliers=["odd"], members=2))
    for evaluation in found:
        for name, column in evaluation.results["values"].items():
            assert evaluation.results["mean"][name] == pytest.approx(np.mean(column))
            expected = np.std(column, ddof=1) / np.sqrt(len(column))
            assert evaluation.results["standard_error"][name] == pytest.approx(expected)
    rows = ddu_rows(found)
    assert [row["score"] for row in rows] == [
        "energy", "softmax entropy", "GMM density", "GMM class entropy", "mutual information", "predictive entropy",
    ]  # fmt: skip
    assert rows[3]["auroc"] == found[1].results["mean"]["m2_auroc"]
    assert summary([{"a": 1.0}]) == {
        "mean": {"a": 1.0},
        "standard_error": {"a": None},
        "values": {"a": [1.0]},
    }


def test_a_run_that_fails_is_counted_and_named(cache):
    features, logits, labels = values(9, "train")
    import_arrays(cache, "net-9/news/train", {"avg": features}, logits, labels)
    kept = Kept()
    (found,) = evaluate_ddu(cache, ["net-*"], DDUPlan(outliers=["odd"], kinds=["softmax"]), reporter=kept)
    (failure,) = found.results["info"]["failed"]
    assert failure["run"] == "net-9" and "test" in failure["reason"]
    assert found.results["info"]["runs"] == [f"net-{seed}" for seed in range(4)]
    assert any(line.startswith("net-9 failed: ") for line in kept.lines)
    with pytest.raises(DataError, match="no softmax could be evaluated"):
        evaluate_ddu(cache, ["net-9"], DDUPlan(outliers=["odd"], kinds=["softmax"]))


def test_a_set_of_a_suite_that_some_runs_lack_is_left_out(cache, monkeypatch):
    features, logits, labels = values(0, "odd")
    monkeypatch.setattr(suites, "suite", lambda name: ("odd", "strange"))
    for seed in (0, 2, 3):
        import_arrays(
            cache, f"net-{seed}/strange/test", {"avg": features}, logits, labels, run={"role": "ood"}
        )
    kept = Kept()
    found = evaluate_ddu(cache, ["net-*"], DDUPlan(suites=["both"], members=2), reporter=kept)
    assert {evaluation.ood for evaluation in found} == {"odd"}
    assert all(len(evaluation.results["info"]["failed"]) == 0 for evaluation in found)
    assert any(line.startswith("left out: net-1/strange") for line in kept.lines)
    assert {row["ood"] for row in evaluate_heat(cache, ["net-*"], HEATPlan(
        suites=["both"], scorers=["energy"], combine=[]))[0]} >= {"odd"}  # fmt: skip


def test_networks_by_pattern_and_name(cache):
    assert find_networks(cache, ["net-*"])[0] == ("net", ("net-0", "net-1", "net-2", "net-3"))
    assert find_networks(cache, ["b=net-3,net-1", "net-0"]) == [
        ("b", ("net-1", "net-3")),
        ("net-0", ("net-0",)),
    ]
    with pytest.raises(DataError, match=r"no backbone of the cache .* matches 'other-\*'"):
        find_networks(cache, ["other-*"])
    with pytest.raises(UsageError, match="listed twice"):
        find_networks(cache, ["a=net-*", "b=net-0"])
    with pytest.raises(UsageError, match="too few for an ensemble of 5"):
        evaluate_ddu(cache, ["net-*"], DDUPlan(outliers=["odd"], kinds=["ensemble"]))


def test_errors_of_the_program_are_no_failed_runs():
    def broken(run):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        evaluate_runs(["a"], broken)


def test_wrong_options_are_no_failed_runs(cache):
    with pytest.raises(UsageError, match="there is no head 'nothing'"):
        evaluate_heat(cache, ["net-0"], HEATPlan(outliers=["odd"], scorers=["nothing"], combine=[]))


def test_rows_that_the_training_held_out(featood, tmp_path, toy_images):
    folder = str(tmp_path / "net")
    code, _, err = featood(
        "train", "cross-entropy", "--dataset", "toy", "--arch", "lenet", "--out", folder, "--image-size", "28",
        "--limit", "40", "--epochs", "1", "--batch-size", "8", "--validation", "0.25", "--seed", "3",
    )  # fmt: skip
    assert code == 0, err
    assert featood("extract", "--backbone", folder, "--dataset", "toy")[0] == 0
    train = FeatureCache(tmp_path / "cache")["net/toy/train"]
    known, held, origin = training_rows(train)
    np.testing.assert_array_equal(held.ids[:], train.ids[:][held_out_rows(40, 0.25, 3)])
    assert (
        len(held) == 10 and len(known) == 30 and origin == "trained on 30 rows, 10 held out by its training"
    )
    assert not set(known.ids[:]) & set(held.ids[:])
    assert set(known.ids[:]) | set(held.ids[:]) == set(train.ids[:40])
    code, _, err = featood(
        "evaluate", "ddu", "net", "--ood", "odd", "--kind", "softmax", "--out", str(tmp_path)
    )
    assert code == 0 and "10 held out by its training" in err, err
    shutil.rmtree(folder)
    assert "drawn with seed 0; the network may have been trained on them" in training_rows(train).origin


def test_scores_of_the_logits(cache):
    tables = evaluate_thesis(cache, ["net-*"], ThesisPlan(outliers=["odd"], max_eval=50))
    assert {row["Model Type"] for row in tables.ood} == {"net"} and not tables.failed
    for seed in range(4):
        inside, outside = (
            values(seed, "test")[1][:50].astype(float),
            values(seed, "odd")[1][:50].astype(float),
        )

        def scores(name, logits):
            alpha = np.exp(logits) + 1
            p, total = alpha / alpha.sum(1, keepdims=True), alpha.sum(1)
            expected = -(p * (digamma(alpha + 1) - digamma(total + 1)[:, None])).sum(1)
            return {
                "confidence_alea_uncert.": -p.max(1), "entropy_of_expected": entropy(p, axis=1),
                "expected_entropy": expected, "mutual_information": entropy(p, axis=1) - expected,
                "EPKL": 2 / total, "differential_entropy": [dirichlet(row).entropy() for row in alpha],
                "p(x)": -logsumexp(logits, axis=1), "max p(y|x)": -softmax(logits, 1).max(1),
            }[name]  # fmt: skip

        for name in SCORES:
            rows = [row for row in tables.ood if (row["Model"], row["Score"]) == (f"net-{seed}", name)]
            found = {row["Metric"]: row["Value"] for row in rows}
            a, b = np.asarray(scores(name, inside)), np.asarray(scores(name, outside))
            area, out = detection(a, b)
            expected = {
                "AUROC": area,
                "iAUROC": area,
                "iAUPR": out,
                "AUPR": detection(a, b, id_positive=True)[1],
            }
            assert found == pytest.approx({key: 100 * value for key, value in expected.items()}, abs=1e-6), (
                name
            )
    moments = mean_rows(tables.ood)
    assert [row["score"] for row in moments] == list(SCORES) and moments[0]["runs"] == 4
    found = [row["Value"] for row in tables.ood if row["Score"] == "p(x)" and row["Metric"] == "AUROC"]
    assert moments[6]["AUROC"] == pytest.approx(np.mean(found))


def test_the_density_of_networks_without_logits(tmp_path):
    cache, rng = FeatureCache(tmp_path / "cache"), np.random.default_rng(0)
    inside, outside = rng.normal(0, 1, 50), rng.normal(-1, 1, 40)
    for key, density in (("news/test", inside), ("odd/test", outside)):
        columns = {"latent": rng.normal(size=(len(density), 3)), "log-density": density[:, None]}
        run = {"role": "ood"} if key[0] == "o" else {}
        import_arrays(cache, f"flow/{key}", columns, labels=np.zeros(len(density), int), run=run)
    tables = evaluate_thesis(cache, ["flow"], ThesisPlan(outliers=["odd"], dataset="news", max_eval=0))
    found = {(row["Score"], row["Metric"]): row["Value"] for row in tables.ood}
    area, out = detection(-inside, -outside)
    assert found["p(x)", "AUROC"] == pytest.approx(100 * area)
    assert found["p(x)", "iAUPR"] == pytest.approx(100 * out)
    assert {score for score, _ in found} == {"p(x)"} and not tables.classification


def test_calibration_of_a_run(cache):
    tables = evaluate_thesis(cache, ["net-1"], ThesisPlan(outliers=["odd"]))
    found = {(row["OOD dataset"], row["Metric"]): row["Value"] for row in tables.classification}
    _, logits, labels = values(1, "test")
    p, one_hot = softmax(logits.astype(float), 1), np.eye(3)[labels]
    assert found["", "Brier"] == pytest.approx(((p - one_hot) ** 2).sum(1).mean())
    gaps = []
    for low in np.arange(10) / 10:
        inside = (p.max(1) > low) & (p.max(1) <= low + 0.1)
        gaps += (
            [abs(p.max(1)[inside].mean() - (p.argmax(1) == labels)[inside].mean())] if inside.any() else []
        )
    assert found["", "MCE"] == pytest.approx(max(gaps))
    reliability = resolution = 0.0
    for group in range(3):
        rows = p.argmax(1) == group
        reliability += rows.mean() * ((p[rows].mean(0) - one_hot[rows].mean(0)) ** 2).sum()
        resolution += rows.mean() * ((one_hot[rows].mean(0) - one_hot.mean(0)) ** 2).sum()
    assert found["", "Brier reliability"] == pytest.approx(reliability)
    assert found["", "Brier resolution"] == pytest.approx(resolution)
    assert found["", "Brier uncertainty"] == pytest.approx((one_hot.mean(0) * (1 - one_hot.mean(0))).sum())
    odd = softmax(values(1, "odd")[1].astype(float), 1)
    divergence = np.mean([entropy(np.full(3, 1 / 3), row) for row in odd])
    assert found["odd", "KL to uniform"] == pytest.approx(divergence)


def test_heads_and_their_composition(cache):
    plan = HEATPlan(
        outliers=["odd"], scorers=["knn", "energy"], combine=["knn", "mahalanobis"], betas=[0, np.inf]
    )
    rows, failed = evaluate_heat(cache, ["net-0,net-1"], plan)
    assert not failed
    by_name = {(row["scorer"], row["ood"]): row for row in rows}
    assert list(by_name) == [
        (scorer, ood) for scorer in ("knn", "energy", "heat", "heat beta=inf") for ood in ("odd", "average")
    ]
    for seed in range(2):
        selection = select(cache, f"net-{seed}")
        train, test, odd = selection.open("train"), selection.open("test"), cache[f"net-{seed}/odd/test"]
        members = [create_head(name).fit(train) for name in ("knn", "mahalanobis")]
        standard = {}
        for part in (test, odd):
            columns = [
                (head.score(part) - head.score(train).mean()) / head.score(train).std() for head in members
            ]
            standard[len(part)] = np.stack(columns, 1)
        for name, reduce in (("heat", np.sum), ("heat beta=inf", np.max)):
            area = detection(reduce(standard[120], axis=1), reduce(standard[90], axis=1))[0]
            assert by_name[name, "odd"]["auroc_values"][seed] == pytest.approx(area, abs=1e-6)
        area = detection(members[0].score(test), members[0].score(odd))[0]
        assert by_name["knn", "odd"]["auroc_values"][seed] == pytest.approx(area)
        assert find_heads(selection).keys() == {"knn", "mahalanobis"}  # saved for the next evaluation
    (only,), _ = (
        evaluate_heat(cache, ["net-0"], HEATPlan(outliers=["odd"], scorers=["energy"], combine=[]))[0][:1],
        0,
    )
    assert only["scorer"] == "energy" and only["auroc_se"] is None


def test_the_other_commands(featood, cache, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    where = ("net-*", "--cache", str(cache.root), "--ood", "odd", "--out", "results")
    code, out, err = featood("evaluate", "thesis", *where, "--name", "news")
    assert code == 0 and "differential_entropy" in out and "net on odd: KL to uniform" in err, err
    assert (
        Path("results/ood-news.csv")
        .read_text()
        .startswith("Model,Model Type,ID dataset,OOD dataset,Score,Metric")
    )
    assert Path("results/clf-news.csv").read_text().count("\n") == 1 + 4 * 8
    code, out, err = featood("evaluate", "heat", *where, "--scorer", "energy", "--combine", "knn")
    assert code == 0 and "average" in out and json.loads(Path("results/results.json").read_text())["rows"], (
        err
    )
    code, _, err = featood("evaluate", "thesis", *where, "--name", "../news")
    assert code == 2 and err.count("\n") == 1


def test_the_command_writes_files_and_a_table(featood, cache, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = featood(
        "evaluate",
        "ddu",
        "net-*",
        "--cache",
        str(cache.root),
        "--ood",
        "odd",
        "--members",
        "2",
        "--out",
        "results",
    )
    assert code == 0 and "predictive entropy" in out and "±" in out
    body = json.loads(Path("results/res_net_gmm_news_odd.json").read_text())
    assert set(body) == {"mean", "standard_error", "values", "info"} and len(body["values"]["m1_auroc"]) == 4
    assert Path("results/table.csv").read_text().count("\n") == 7
    code, _, err = featood("evaluate", "ddu", "nothing-*", "--cache", str(cache.root), "--ood", "odd")
    assert code == 3 and err.count("\n") == 1
