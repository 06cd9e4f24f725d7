import json
import subprocess
import sys

import numpy as np
import pytest

from featood.cache import FeatureCache
from featood.cache.transfer import import_arrays
from featood.cli import main
from featood.errors import UsageError
from featood.heads import ask, load_head
from featood.metrics import mean_and_error
from featood.pipeline.fitted_heads import chosen_heads, find_heads
from featood.pipeline.fitting import FitPlan, fit_head
from featood.pipeline.scoring import ScorePlan, score_selection
from featood.pipeline.selection import select
from featood.pipeline.variant_labels import matching, repeated_label, variant_label
from featood.pipeline.variants import fit_variants
from featood.report import collapsed, mean_rows, write_report
from featood.testing.fixture import synthetic_sets

TRAIN, TEST = synthetic_sets()
QUICK = {"epochs": 3, "depth": 1, "width": 16, "batch_size": 64}
NAMED = variant_label("jem", QUICK)


@pytest.fixture
def selection(tmp_path):
    cache = FeatureCache(tmp_path / "cache")
    known = np.asarray(TEST.labels) >= 0

    def put(key, data, **rest):
        import_arrays(cache, key, {"avg": data.features["avg"]}, labels=data.labels, **rest)

    put("net/news/train", TRAIN.rows(np.asarray(TRAIN.labels) >= 0))
    put("net/news/test", TEST.rows(known))
    put("net/spam/test", TEST.rows(~known), run={"role": "ood"})
    put("net/junk/test", TEST.rows(np.flatnonzero(~known)[::2]), run={"role": "ood"})
    return select(cache, "net", "news")


def test_labels():
    assert variant_label("knn", {"k": 5, "stages": ("a", "b")}) == "knn@k=5,stages=a+b"
    assert repeated_label("a@lr=1,seed=3,k=2") == "a@lr=1,k=2" and repeated_label("a@seed=3[x]") == "a[x]"
    assert repeated_label("a@lr=1") is None and repeated_label("a[seed=1]") is None
    labels = ["a", "a@k=1,seed=0", "a@k=1,seed=1", "a@k=2,seed=0", "ab@k=1", "b@k=1"]
    assert matching(labels, "a") == ["a"] and matching(labels, "b") == ["b@k=1"]
    assert matching(labels, "a@") == labels[1:4] and matching(labels, "a@k=1") == labels[1:3]
    assert matching(labels, "a@seed=0,k=2") == ["a@k=2,seed=0"] and matching(labels, "c") == []


def test_results_of_several_seeds_are_averaged(selection):
    variants = fit_variants(selection, "jem", QUICK | {"seed": 4}, repeat=3)
    assert [one.label for one in variants] == [f"{NAMED},seed={seed}" for seed in (4, 5, 6)]
    assert {one.group for one in variants} == {NAMED} and len(find_heads(selection)) == 3
    scoring = score_selection(selection, ["jem"], ["spam", "junk"])
    rows = scoring.results["rows"]
    assert len(rows) == 6 and len({row["auroc"] for row in rows}) > 2
    first, second = scoring.results["repeats"]
    values = [row["auroc"] for row in rows if row["ood"] == "spam"]
    assert first["head"] == second["head"] == NAMED and first["repeats"] == 3 and first["ood"] == "spam"
    assert first["values"]["auroc"] == values
    assert first["auroc"] == pytest.approx(np.mean(values))
    assert first["auroc_se"] == pytest.approx(np.std(values, ddof=1) / np.sqrt(3))
    shown = collapsed(scoring.results)
    assert shown == [first, second]
    (mean,) = mean_rows(shown)
    averages = np.array([first["values"]["auroc"], second["values"]["auroc"]]).mean(0)
    assert mean["auroc"] == pytest.approx(averages.mean()) and mean["repeats"] == 3
    assert mean["auroc_se"] == pytest.approx(np.std(averages, ddof=1) / np.sqrt(3))


def test_fits_with_other_settings_are_not_repetitions(selection):
    options = [{"lr": 0.01}, {"lr": 1e-4, "batch_size": 512}]  # 512 is the default
    for changed, repeat in zip(options, (3, 2), strict=True):
        fit_variants(selection, "mlp", {"epochs": 1, **changed}, repeat=repeat)
    found = {
        row["head"]: row["repeats"]
        for row in score_selection(selection, ["mlp"], ["spam"]).results["repeats"]
    }
    assert found == {"mlp@epochs=1,lr=0.01": 3, "mlp@epochs=1,lr=0.0001": 2}
    variants = fit_variants(
        selection, "epn-m", {"epochs": 1, "sgld_steps": 1}, FitPlan("published"), repeat=2
    )
    assert variants[1].label == "epn-m@preset=published,epochs=1,sgld_steps=1,seed=1"


def test_the_report_averages_seeds_and_marks_diverged_trainings(selection, tmp_path):
    fit_variants(selection, "jem", QUICK, repeat=2)
    fit_head(selection, "cd", {"epochs": 3, "sgld_steps": 2, "lr": 1e4})
    scoring = score_selection(selection, ["jem", "cd"], ["spam"])
    assert [row.get("diverged") for row in scoring.results["rows"]] == [None, None, True]
    write_report(tmp_path / "report.html", scoring.results, scoring.scores)
    page = (tmp_path / "report.html").read_text()
    assert f"{NAMED} x2" in page and "±" in page and "cd!" in page and "fell back" not in page
    assert f"{NAMED},seed=0" in page and f"{NAMED},seed=1" not in page and "last good state" in page


def test_a_grid_is_fitted_completely_or_not_at_all(selection):
    variants = fit_variants(selection, "knn", grid={"k": [2, 3], "space": ["none"]})
    assert [one.label for one in variants] == ["knn@k=2,space=none", "knn@k=3,space=none"]
    assert load_head(variants[1].folder).k == 3
    assert set(chosen_heads(selection, ["knn@k=3"])[0]) == {"knn@k=3,space=none"}
    for options in ({"grid": {"k": [4, 0]}}, {"repeat": 2}, {"grid": {"kk": [1]}}, {"grid": {"k": [4, 4]}}):
        with pytest.raises(UsageError):
            fit_variants(selection, "knn", **options)
    with pytest.raises(UsageError, match="not both"):
        fit_variants(selection, "jem", QUICK, grid={"seed": [1]}, repeat=2)
    assert len(find_heads(selection)) == 2


def test_the_standard_error_of_a_single_value_is_nan():
    mean, error = mean_and_error([0.25])
    assert mean == 0.25 and np.isnan(error)


def test_each_score_of_a_head_can_be_computed(selection):
    head, _ = fit_head(selection, "jem", QUICK)
    fit_head(selection, "knn")
    rows = score_selection(selection, ["jem", "knn"], ["spam"], how=ScorePlan(which="all")).results["rows"]
    names = ["jem[energy]", "jem[max-probability]", "jem[gradient-norm]", "knn"]
    assert [row["head"] for row in rows] == names
    assert [row.get("which") for row in rows] == [*head.card.scores, None]
    one = score_selection(selection, ["jem"], ["spam"], how=ScorePlan(which="gradient-norm"))
    assert one.results["rows"][0]["auroc"] == rows[2]["auroc"]
    test = selection.open("test")
    again = fit_head(selection, "jem", QUICK | {"which": "gradient-norm"})[0]
    np.testing.assert_array_equal(ask(head, "gradient-norm").score(test), again.score(test))
    with pytest.raises(UsageError, match="energy, gradient-norm, max-probability"):
        score_selection(selection, ["jem", "knn"], ["spam"], how=ScorePlan(which="alpha0"))
    with pytest.raises(UsageError, match="one score only"):
        ask(fit_head(selection, "knn")[0], "x")


def test_heads_validated_on_outliers_are_marked_and_not_tested_on_them(selection):
    head, _ = fit_head(selection, "jem", QUICK | {"validation": 0.2}, plan=FitPlan(validate_on="junk"))
    assert "OOD-validated" in head.record.notes[0] and head.record.tuned["on"] == "junk"
    with pytest.raises(UsageError, match="junk"):
        score_selection(selection, ["jem"], ["junk"])
    (row,) = score_selection(selection, ["jem"], ["spam"]).results["rows"]
    assert row["ood_validated"] == "junk"
    for name, text in (("knn", "no training state"), ("heat-gmm", "no training state")):
        with pytest.raises(UsageError, match=text):
            fit_head(selection, name, plan=FitPlan(validate_on="junk"))
    with pytest.raises(UsageError, match="in-distribution"):
        fit_head(selection, "jem", plan=FitPlan(validate_on="news"))


def test_repeat_sweep_and_which_on_the_command_line(selection, capsys, monkeypatch):
    def run(*words):
        monkeypatch.setattr(sys, "argv", ["featood", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, capsys.readouterr()

    root = str(selection.cache.root)
    quick = [text for name, value in QUICK.items() for text in (f"--{name.replace('_', '-')}", str(value))]
    where = ["--cache", root, "--backbone", "net", "--dataset", "news"]
    sweep = ["--repeat", "2", "--sweep", "lr=0.01,0.001", "--validation", "0.2"]
    code, out = run("fit", "jem", *quick, *sweep, *where)
    assert code == 0 and "lr=0.01" in out.out and out.out.count(" ±") == 4 and out.out.count("*") == 1
    assert len(find_heads(selection)) == 4
    code, out = run("score", "--head", "jem", "--ood", "spam", "--json", "-", *where)
    repeats = json.loads(out.out)["repeats"]
    groups = {frozenset(row["head"].removeprefix("jem@").split(",")) for row in repeats}
    usual = {f"{name}={value}" for name, value in QUICK.items()} | {"validation=0.2"}
    assert groups == {frozenset(usual | {f"lr={lr}"}) for lr in (0.01, 0.001)}
    code, out = run("score", "--head", "jem", "--ood", "spam", *where)
    assert code == 0 and " x2" in out.out and "±" in out.out
    code, out = run(
        "score", "--head", "jem@lr=0.01", "--which", "energy", "--ood", "spam", "--csv", "-", *where
    )
    assert out.out.count("lr=0.01,seed=") == 2 == out.out.count("[energy]")
    code, out = run("fit", "jem", "--sweep", "lr=fast", *where)
    assert code == 2 and "'fast' is not a value for lr" in out.err
    code, out = run("fit", "knn", "--repeat", "3", *where)
    assert code == 2 and "no seed" in out.err


def test_losses_are_logged_to_tensorboard_or_its_absence_is_reported(selection, tmp_path):
    log = tmp_path / "log"
    words = ["fit", "cd", "--epochs", "2", "--sgld-steps", "2", "--cache", str(selection.cache.root)]
    words += ["--backbone", "net", "--dataset", "news", "--tensorboard", str(log)]
    ran = subprocess.run([sys.executable, "-m", "featood", *words], capture_output=True, text=True)
    try:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    except ImportError:
        assert ran.returncode == 2 and "featood[tensorboard]" in ran.stderr
        return
    assert ran.returncode == 0, ran.stderr
    events = EventAccumulator(str(log / "fit-1"))
    events.Reload()
    assert "loss" in events.Tags()["scalars"] and events.Scalars("loss")[0].step == 1
