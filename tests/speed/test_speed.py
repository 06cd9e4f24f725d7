"""Measurements of speed: what is measured, how it is compared, and the command."""

import json
import time

import numpy as np
import pytest

from featood.speed.floors import FLOORS, Operations
from featood.speed.heads import OURS, Measuring, _work, measure_head
from featood.speed.peers import peers_of
from featood.speed.report import compare, page, plot, tables
from featood.speed.synthetic import Size, clustered
from featood.speed.timing import in_process, seconds

SMALL = Size(300, 8, 3, 50)


class Pipe(list):
    send = list.append


@pytest.mark.parametrize("library", [OURS, "pytorch-ood", "faiss", "scikit-learn"])
@pytest.mark.parametrize("name", ["mahalanobis", "knn", "vim", "kl-matching", "energy", "gmm", "lof"])
def test_heads_are_timed(name, library):
    if library != OURS and library not in peers_of(name):
        pytest.skip(f"{library} is not installed, or has no {name}")
    sent = Pipe()
    _work(sent, name, library, SMALL, Measuring(repeat=1))
    found = dict(sent)
    assert list(found) == ["ready", "fit", "score", "peak"]
    assert found["score"] > 0 and (found["fit"] is None) == (name == "energy")


@pytest.mark.parametrize("name", ["mahalanobis", "knn", "lof"])
def test_libraries_compute_the_same_ranks(name):
    from scipy.stats import spearmanr

    train, test = (clustered(200, 6, 3, seed) for seed in (0, 1))
    scores = {library: np.asarray(fit(train)(test)) for library, fit in peers_of(name).items()}
    if not scores:
        pytest.skip("no other library is installed")
    from featood.heads import create_head

    options = {"lof": {"neighbors": 20}}
    ours = create_head(name, **options.get(name, {})).fit(train).score(test)
    for library, theirs in scores.items():
        assert spearmanr(ours, theirs).statistic > 0.999, library


def _slow(pipe):
    pipe.send(("ready", True))
    pipe.send(("fit", 2.0))
    time.sleep(60)


def _broken(pipe):
    raise MemoryError("too large\nfor this machine")


def test_a_step_that_takes_too_long_is_stopped_and_a_crash_is_a_result():
    found = in_process(_slow, cap=0.2)
    assert found["fit"] == 2.0 and found["error"] == "over 0.2 s"
    assert in_process(_broken, cap=60)["error"] == "MemoryError: too large"


def test_a_row_has_ratios_to_floors_and_to_other_libraries(monkeypatch):
    runs = {
        OURS: {"ready": True, "fit": 0.5, "score": 0.25, "peak": 1.0},
        "pytorch-ood": {"fit": 2.0, "error": "over 60 s"},
        "faiss": {"fit": 1.0, "score": 0.1, "peak": 2.0},
    }
    monkeypatch.setattr("featood.speed.heads.in_process", lambda work, name, library, *_, cap: runs[library])
    monkeypatch.setattr("featood.speed.heads.peers_of", lambda name: dict.fromkeys(("pytorch-ood", "faiss")))
    operations = Operations(1)
    operations.copy = operations.product = lambda *sizes: 0.125
    row = measure_head("knn", SMALL, Measuring(peers=True), operations)
    assert row["fit/floor"] == 4 and row["score/floor"] == 2 and row["peak"] == 1
    assert (
        row["peers"]["pytorch-ood"]["fit/ours"] == 4 and row["peers"]["pytorch-ood"]["score/ours"] == "> 240"
    )
    assert row["peers"]["faiss"]["score/ours"] == 0.4 and row["note"] == "pytorch-ood: over 60 s"
    first, second = tables([row])
    assert first[0]["head"] == "knn" and [line["library"] for line in second] == ["pytorch-ood", "faiss"]
    text = page([row], {"threads": 1}, "featood bench knn")
    assert "| knn | faiss | 1 | 0.1 | 2 | 2 | 0.4 |" in text and "N 300, D 8, C 3, n 50. threads 1." in text


def test_floors_are_sums_of_operations_that_are_measured_once():
    operations = Operations(1)
    for name, floor in FLOORS.items():
        for least in floor:
            assert least is None or least(SMALL, operations) >= 0, name
    taken = operations.eigh(16)
    assert taken > 0 and operations.eigh(16) == taken  # measured once
    least, _ = seconds(lambda: time.sleep(0.01), repeat=2)
    assert least >= 0.01


def test_runs_are_compared_by_their_ratios_to_floors():
    row = {"head": "knn", **SMALL._asdict(), "fit/floor": 2.0, "score/floor": 1.0}
    slower = {**row, "fit/floor": 3.0, "score/floor": None}
    (found,) = compare([row], [slower, {**row, "head": "vim"}])
    assert found["head"] == "knn" and found["fit"] == 1.5 and found["score"] is None


def test_costs_are_drawn_against_the_sizes_that_vary(tmp_path):
    pytest.importorskip("matplotlib")
    rows = [
        {
            "head": head,
            **Size(n, 8, 3, 50)._asdict(),
            "fit": n / 1e4,
            "score": None if head == "a" else n / 1e5,
        }
        for head in "ab"
        for n in (100, 1000)
    ]
    plot(rows, str(tmp_path / "cost.svg"))
    text = (tmp_path / "cost.svg").read_text()
    assert "<svg" in text and "rows" in text


def test_the_command_writes_a_page_and_compares(featood, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sizes = ["--rows", "200", "--features", "8", "--classes", "3", "--test-rows", "50", "--repeat", "1"]
    code, out, err = featood("bench", "energy", *sizes, "--json", "a.json", "--page", "speed.md")
    assert code == 0, err
    assert "score/floor" in out and "processor" in err
    body = json.loads((tmp_path / "a.json").read_text())
    assert body["rows"][0]["head"] == "energy" and body["environment"]["threads"] >= 1
    assert "| energy |" in (tmp_path / "speed.md").read_text()
    body["rows"][0]["score/floor"] /= 1e6
    (tmp_path / "a.json").write_text(json.dumps(body))
    code, _, err = featood("bench", "energy", *sizes, "--compare", "a.json")
    assert code == 1 and "has grown by more than 1.5 times" in err
    code, _, err = featood("bench", "enrgy")
    assert code == 2 and "energy" in err
    code, _, err = featood("bench", "energy", "--rows", "many")
    assert code == 2 and "whole numbers" in err
