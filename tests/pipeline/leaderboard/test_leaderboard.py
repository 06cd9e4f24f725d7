import dataclasses
import json
import math
import multiprocessing

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from featood.cache import FeatureCache
from featood.cache.transfer import import_arrays
from featood.errors import DataError, UsageError
from featood.heads import create_head, head_class, list_heads
from featood.pipeline.evidence import Scored
from featood.pipeline.leaderboard import Results, Work, fits, read_plan, running, verification
from featood.pipeline.leaderboard.fits import jobs_of, open_sets
from featood.pipeline.leaderboard.workers import Outcome, make_fits
from featood.sealed import seal
from featood.testing.fixture import synthetic_sets

TRAIN, TEST = synthetic_sets()
SOME = ("energy", "knn", "lof", "msp", "weighted-energy")
PLAN = """
seeds = 2
resamples = 20
note = "Nothing is <b>bold</b> here."

[options.lof]
neighbors = 7

[[benchmark]]
backbone = "net"
dataset = "news"
near = ["spam"]
far = ["junk", "dust"]

[[benchmark]]
backbone = "other"
dataset = "news"
near = ["spam"]
test-share = 0.5
"""


def put(cache, key, data, run=None, shift=0.0):
    features = {"avg": data.features["avg"] + np.float32(shift)}
    import_arrays(cache, key, features, data.logits, data.labels, data.classifier, run=run)


@pytest.fixture
def few(monkeypatch, tmp_path):
    """A cache with two backbones, one without a training split, a plan, and a shorter list of heads."""
    cache = FeatureCache(tmp_path / "cache")
    known, odd = np.asarray(TEST.labels) >= 0, np.asarray(TEST.labels) < 0
    put(cache, "net/news/train", TRAIN.rows(np.asarray(TRAIN.labels) >= 0))
    for backbone in ("net", "other"):
        put(cache, f"{backbone}/news/test", TEST.rows(known))
        put(cache, f"{backbone}/spam/test", TEST.rows(odd), {"role": "ood"})
    put(cache, "net/junk/test", TEST.rows(odd), {"role": "ood"}, shift=0.3)
    put(cache, "net/dust/test", TEST.rows(odd).rows(slice(0, 25)), {"role": "ood"}, shift=0.1)
    cards = list_heads()
    monkeypatch.setattr(fits, "list_heads", lambda: {name: cards[name] for name in SOME})
    (tmp_path / "plan.toml").write_text(PLAN)
    return cache


class Made(list):
    def __init__(self):
        super().__init__()
        self.failing = {}


@pytest.fixture
def made(monkeypatch):
    """Make the fits in this process, and return the names of those made; one in `failing` fails instead."""
    names = Made()

    def make_fits(work, jobs, processes, cap):
        for job in jobs:
            failure = names.failing.get(job.name)
            if isinstance(failure, BaseException):
                raise failure
            if failure is None:
                names.append(job.name)
            sets = work.sets[job.benchmark]
            if failure == "slow":
                line = fits.left_out(work.plan, job, sets, "slow", over_s=cap)
                yield job, Outcome((line, np.empty(0)))
            else:
                yield job, failure or Outcome(fits.fit_and_score(work.plan, job, sets))

    monkeypatch.setattr(verification, "make_fits", make_fits)
    monkeypatch.setattr(running, "make_fits", make_fits)
    return names


def lines_of(folder):
    return [json.loads(text) for text in (folder / "results.jsonl").read_text().splitlines()]


def run(featood, tmp_path, *words):
    return featood("leaderboard", tmp_path / "plan.toml", tmp_path / "out", *words)


def test_each_fit_is_a_line_with_the_results_of_the_head(few, made, featood, tmp_path):
    code, _, err = run(featood, tmp_path)
    assert code == 0, err
    labels = ["energy", "knn", "lof@seed=0", "lof@seed=1", "msp", "weighted-energy"]
    assert sorted(made) == sorted(f"{name}/news/{label}" for name in ("net", "other") for label in labels)
    lines = {(line["benchmark"], line["label"]): line for line in lines_of(tmp_path / "out")}
    assert len(lines) == 12
    line = lines["net/news", "lof@seed=1"]
    head = create_head("lof", neighbors=7, seed=1).fit(few["net/news/train"])
    known = np.asarray(head.score(few["net/news/test"]))
    for row in line["rows"]:
        odd = np.asarray(head.score(few[f"net/{row['ood']}/test"]))
        truth = np.repeat([0, 1], [len(known), len(odd)])
        assert row["auroc"] == pytest.approx(roc_auc_score(truth, np.concatenate([known, odd])), abs=1e-12)
        for metric in ("auroc", "fpr95", "aupr_in", "aupr_out"):
            assert row[f"{metric}_low"] <= row[metric] <= row[f"{metric}_high"]
    assert [row["ood"] for row in line["rows"]] == ["spam", "junk", "dust"]
    assert line["evidence"]["heads"]["lof@seed=1"]["options"]["neighbors"] == 7 and line["seed"] == 1
    assert line["contents"]["net/news/train"] == few["net/news/train"].content
    assert "outliers" in lines["net/news", "weighted-energy"]["left_out"]


def test_a_set_without_a_training_split_is_divided_and_no_row_is_in_both_parts(few, tmp_path):
    sets = open_sets(few, read_plan(tmp_path / "plan.toml").benchmarks[1])
    whole = few["other/news/test"]
    parts = [set(map(bytes, np.asarray(part.features["avg"][:]))) for part in (sets.train, sets.test)]
    assert not parts[0] & parts[1] and len(sets.train) + len(sets.test) == len(whole)
    assert sets.train.name != sets.test.name


def test_an_interrupted_run_continues_where_it_was(few, made, featood, tmp_path):
    made.failing["net/news/msp"] = KeyboardInterrupt()
    code, _, err = run(featood, tmp_path)
    assert code == 130 and "run the same command again" in err
    first, file = list(made), tmp_path / "out" / "results.jsonl"
    assert 0 < len(first) < 12
    kept = file.read_text()
    file.write_text(kept + '{"benchmark": "net/ne')  # killed while it wrote a line
    made.failing.clear()
    assert run(featood, tmp_path)[0] == 0
    assert file.read_text().startswith(kept) and len(lines_of(tmp_path / "out")) == 12
    finished = {f"{line['benchmark']}/{line['label']}" for line in map(json.loads, kept.splitlines())}
    assert len(finished) and finished.isdisjoint(made[len(first) :])
    del made[:]
    assert run(featood, tmp_path)[0] == 0 and not made


def test_only_fits_that_have_changed_are_made_again(few, made, featood, tmp_path):
    assert run(featood, tmp_path)[0] == 0
    del made[:]
    (tmp_path / "plan.toml").write_text(PLAN.replace("neighbors = 7", "neighbors = 8"))
    assert run(featood, tmp_path)[0] == 0
    assert sorted(made) == [f"{name}/news/lof@seed={seed}" for name in ("net", "other") for seed in (0, 1)]
    del made[:]
    next((tmp_path / "out" / "ranks" / "net%2Fnews").glob("knn.npy")).unlink()
    put(few, "other/spam/test", TEST.rows(np.asarray(TEST.labels) < 0), {"role": "ood"})
    assert run(featood, tmp_path)[0] == 0 and made == ["net/news/knn"]


def test_heads_that_train_wait_for_training_and_named_heads_are_fitted_alone(
    few, made, featood, tmp_path, monkeypatch
):
    cards = list_heads()
    monkeypatch.setattr(fits, "list_heads", lambda: {name: cards[name] for name in ("knn", "mlp", "compose")})
    assert run(featood, tmp_path)[0] == 0 and sorted(made) == ["net/news/knn", "other/news/knn"]
    (tmp_path / "plan.toml").write_text(f"epochs = 1\n{PLAN}")
    del made[:]
    assert run(featood, tmp_path, "--training", "--head", "mlp")[0] == 0
    assert len(made) == 4 and all("/mlp@" in name for name in made)
    heads = [
        line["evidence"]["heads"][line["label"]]
        for line in lines_of(tmp_path / "out")
        if line["head"] == "mlp"
    ]
    assert all(head["options"]["epochs"] == 1 for head in heads)


def test_a_head_over_the_cap_is_left_out_until_the_cap_is_raised(few, made, featood, tmp_path):
    made.failing |= {
        "net/news/knn": "slow",
        "net/news/msp": Outcome(error="ZeroDivisionError: x"),
    }
    code, _, err = run(featood, tmp_path, "--cap", "5")
    assert code == 0 and "net/news/msp failed: ZeroDivisionError: x" in err
    (line,) = [
        line
        for line in lines_of(tmp_path / "out")
        if (line["benchmark"], line["head"]) == ("net/news", "knn")
    ]
    assert (line["left_out"], line["over_s"]) == ("slow", 5)
    made.failing.clear()
    del made[:]
    assert run(featood, tmp_path, "--cap", "5")[0] == 0 and made == ["net/news/msp"]  # a crash is tried again
    assert run(featood, tmp_path, "--cap", "6")[0] == 0 and made[1:] == ["net/news/knn"]


def test_seed_and_epochs_reach_the_members_of_a_composition_unless_they_have_their_own(few, tmp_path):
    plan = dataclasses.replace(read_plan(tmp_path / "plan.toml"), epochs=3)
    job = fits.Job(plan.benchmarks[0], "compose", 4)
    train = few["net/news/train"]
    members = fits.make_head(plan, job, train)[0].create_members()
    assert len(members) == 3 and {(member.epochs, member.seed) for member in members} == {(3, 4)}
    heat = fits.make_head(plan, fits.Job(plan.benchmarks[0], "heat-el", 4), train)[0]
    assert (heat.epochs, heat.updates) == (3, 0)
    own = dataclasses.replace(
        plan, options={"compose": {"members": ["knn k=7", "mlp epochs=9", "mlp seed=1"], "beta": 1.0}}
    )
    head = fits.make_head(own, job, train)[0]
    knn, long, seeded = head.create_members()
    assert (head.beta, head.seed, knn.k) == (1.0, 4, 7)
    assert (long.epochs, long.seed, seeded.epochs, seeded.seed) == (9, 4, 3, 1)
    with pytest.raises(UsageError, match="no option"):
        fits.make_head(dataclasses.replace(plan, options={"compose": {"gamma": 1.0}}), job, train)


def test_presets_are_chosen_as_by_fit_unless_the_plan_names_one(few, tmp_path):
    plan = read_plan(tmp_path / "plan.toml")
    job = fits.Job(plan.benchmarks[0], "react", None)
    head, note = fits.make_head(plan, job, few["net/news/train"])
    assert head.options == create_head("react").options and "defaults" in note
    name, values = next((name, values) for name, values in head_class("react").presets.items() if values)
    chosen, note = fits.make_head(
        dataclasses.replace(plan, options={"react": {"preset": name}}), job, few["net/news/train"]
    )
    assert chosen.options == create_head("react", name).options and values and not note


def change(folder, label, edit):
    """Edit the lines of a label, with valid checksums."""
    lines = lines_of(folder)
    for line in lines:
        if line["label"] == label:
            line.pop("sha256")
            edit(line)
            line.update(seal(line))
    (folder / "results.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def test_verification_confirms_lines_and_finds_changed_ones(few, made, featood, tmp_path):
    assert run(featood, tmp_path)[0] == 0
    code, out, err = run(featood, tmp_path, "--verify", "*")
    assert code == 0, err
    confirmed = [line for line in out.splitlines() if line.startswith("confirmed: ")]
    assert len(confirmed) == len(out.splitlines()) == 5 * 3 + 1 + 5 + 1
    edits = {
        "knn": lambda line: line["rows"][0].update(auroc=line["rows"][0]["auroc"] + 1e-6),
        "msp": lambda line: line["rows"][0].update(fpr95_low=0.0),
        "energy": lambda line: line["rows"].pop(),
        "lof@seed=0": lambda line: line.update(fitted_on={"set": "mine"}),
        "lof@seed=1": lambda line: line.update(settings="0" * 64),
        "weighted-energy": lambda line: line.update(left_out="no reason"),
    }
    for label, edit in edits.items():
        change(tmp_path / "out", label, edit)
        code, out, err = run(featood, tmp_path, "--verify", f"net/*/{label}")
        assert code == 5 and f"net/news/{label}" in err, label
        assert any(line.startswith("different: ") for line in out.splitlines())
    code, _, err = run(featood, tmp_path, "--verify", "*/nothing")
    assert code == 2 and "no line" in err


def test_a_head_with_infinite_scores_is_left_out(few, tmp_path, monkeypatch):
    work, jobs = work_of(few, tmp_path)
    job = jobs["net/news/msp"]
    monkeypatch.setattr(Scored, "octiles", [math.inf] * 9)
    monkeypatch.setattr(Scored, "_asdict", lambda self: {"sha256": "", "octiles": self.octiles})
    line, ranks = fits.fit_and_score(work.plan, job, work.sets[job.benchmark])
    assert line["left_out"] == "gives results that are not finite" and not len(ranks)


def test_a_damaged_line_is_named(few, made, featood, tmp_path):
    assert run(featood, tmp_path, "--head", "msp")[0] == 0
    file = tmp_path / "out" / "results.jsonl"
    file.write_text(file.read_text().replace('"msp"', '"mxp"', 1))
    code, _, err = run(featood, tmp_path)
    assert code == 4 and "results.jsonl, line 1" in err and "remove this line" in err


def test_the_page_has_all_heads_and_both_networks(few, made, featood, tmp_path):
    code, _, err = run(featood, tmp_path, "--head", "knn", "--page", tmp_path / "page.md")
    assert code == 0, err
    assert run(featood, tmp_path, "--page", tmp_path / "page.md")[0] == 0
    text = (tmp_path / "page.md").read_text()
    assert "<b>" not in text and "bold" in text  # the note of the plan, as plain text
    own = text[text.index("## net/news") : text.index("## other/news")]
    assert all(f"`{head}`" in own for head in SOME)
    assert "Near: spam. Far: junk, dust." in own and "outliers" in own
    results, plan = Results(tmp_path / "out"), read_plan(tmp_path / "plan.toml")
    job = next(job for job in jobs_of(plan, plan.benchmarks[0]) if job.head == "knn")
    rows = {row["ood"]: row for row in results.latest(job)["rows"]}
    near, far = rows["spam"]["auroc"], (rows["junk"]["auroc"] + rows["dust"]["auroc"]) / 2
    (line,) = [line for line in own.splitlines() if "`knn`" in line]
    cells = [cell.strip() for cell in line.split("|")]
    assert cells[4].startswith(f"{100 * near:.2f} [") and cells[5].startswith(f"{100 * far:.2f} [")
    assert cells[6] == f"{50 * (near + far):.2f}"
    assert "- `lof`: neighbors=7" in text


def test_a_benchmark_that_is_not_ranked_has_its_table_and_leaves_the_ranks_as_they_are(
    few, made, featood, tmp_path
):
    plan = tmp_path / "plan.toml"
    plan.write_text(
        PLAN
        + 'ranked = false\n\n[[benchmark]]\nbackbone = "other"\ndataset = "spam"\nnear = ["news"]\ntest-share = 0.5\n'
    )
    page = tmp_path / "page.md"
    assert run(featood, tmp_path, "--head", "energy", "--head", "msp", "--page", page)[0] == 0
    ranks, tables = page.read_text().split("## net/news")
    assert "## Most networks" in ranks and "scored on all 2 networks" in ranks
    assert "By the plan, other/news does not count here." in ranks and "## other/news" in tables


def work_of(cache, tmp_path, **changes):
    plan = dataclasses.replace(read_plan(tmp_path / "plan.toml"), **changes)
    work = Work.of(cache, plan)
    return work, {job.name: job for job in work.jobs}


def test_a_page_of_what_there_is_needs_no_fit(few, made, featood, tmp_path):
    page = tmp_path / "page.md"
    code, _, err = run(featood, tmp_path, "--no-fit", "--page", page)
    assert code == 3 and "no scored head" in err and not made
    made.failing["other/news/knn"] = Outcome(error="x")
    assert run(featood, tmp_path, "--head", "knn")[0] == 0
    assert run(featood, tmp_path, "--no-fit", "--page", page)[0] == 0 and made == ["net/news/knn"]
    text = page.read_text()
    assert "Nothing was fitted yet on other/news." in text and "## All networks" not in text


def test_options_without_effect_are_refused(few, made, featood, tmp_path):
    for words in (
        ("--verify", "*", "--training"),
        ("--verify", "*", "--head", "knn"),
        ("--no-fit", "--training"),
    ):
        code, _, err = run(featood, tmp_path, *words)
        assert code == 2 and f"omit --head{', --training,' if words[0] == '--verify' else ' and'}" in err
    assert not made


def test_processes_give_the_results_of_this_process_and_end_with_the_generator(few, tmp_path):
    work, jobs = work_of(few, tmp_path)
    wanted = [jobs[f"net/news/{label}"] for label in ("msp", "weighted-energy", "lof@seed=1")]
    found = dict(make_fits(work, wanted, 2, 100.0))
    for job in wanted:
        line, ranks = fits.fit_and_score(work.plan, job, work.sets[job.benchmark])
        there, ranks_there = found[job].fit
        assert there["settings"] == line["settings"] and not found[job].error
        assert there.get("evidence") == line.get("evidence")
        assert there.get("left_out") == line.get("left_out")
        np.testing.assert_array_equal(ranks_there, ranks)
    assert not multiprocessing.active_children()


def test_slow_and_failing_fits_are_ended_and_the_others_are_made(few, tmp_path):
    work, jobs = work_of(few, tmp_path, options={"mlp": {"epochs": 10**7, "validation": 0.0}})
    good = jobs["net/news/msp"]
    wanted = [good._replace(head="mlp", seed=0), good, good._replace(head="none")]
    found = {job.head: outcome for job, outcome in make_fits(work, wanted, 1, 2.0)}
    slow = found["mlp"].fit[0]
    assert (slow["left_out"], slow["over_s"]) == ("takes over 2 s for one fit", 2)
    assert "UsageError" in found["none"].error and found["msp"].fit[0]["rows"]
    assert not multiprocessing.active_children()


def test_a_plan_that_cannot_be_read_or_names_a_missing_set_is_refused(few, tmp_path):
    with pytest.raises(DataError, match="cannot read"):
        read_plan(tmp_path / "none.toml")
    (tmp_path / "plan.toml").write_text("seeds =")
    with pytest.raises(DataError, match="is not TOML"):
        read_plan(tmp_path / "plan.toml")
    (tmp_path / "plan.toml").write_text(PLAN.replace("dust", "mist"))
    with pytest.raises(DataError, match="net/mist"):
        open_sets(few, read_plan(tmp_path / "plan.toml").benchmarks[0])
