"""Measurements of speed: what is measured, how it is compared, and the command."""

import json
import time

import numpy as np
import pytest

from featood.errors import CacheCorrupt, UsageError
from featood.extractors.transform import IMAGENET
from featood.heads import create_head, head_class
from featood.speed import extraction, stores
from featood.speed.comparison import compare, grown, ratios
from featood.speed.extraction import Extracting, measure_extraction
from featood.speed.floors import FLOORS, Operations
from featood.speed.heads import OURS, Measuring, _work, measure_head
from featood.speed.peers import peers_of
from featood.speed.report import SECTIONS, page, plot, tables
from featood.speed.stores import measure_stores
from featood.speed.synthetic import Size, clustered
from featood.speed.timing import in_process, in_turn, seconds, timed
from featood.speed.training import TRAINED, measure_training

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
    (row,) = measure_head("knn", SMALL, Measuring(peers=True), operations)
    assert row["fit/floor"] == 4 and row["score/floor"] == 2 and row["peak"] == 1
    assert (
        row["peers"]["pytorch-ood"]["fit/ours"] == 4 and row["peers"]["pytorch-ood"]["score/ours"] == "> 240"
    )
    assert row["peers"]["faiss"]["score/ours"] == 0.4 and row["note"] == "pytorch-ood: over 60 s"
    first, second = tables([row])
    assert list(first[0])[:4] == ["head", "fit", "fit/floor", "score"] and list(first[0])[-1] == "note"
    assert first[0]["head"] == "knn" and [line["library"] for line in second] == ["pytorch-ood", "faiss"]
    text = page({"heads": [row]}, {"threads": 1}, "featood bench knn")
    assert "| knn | faiss | 1 | 0.1 | 2 | 2 | 0.4 |" in text
    assert "Rows 300, features 8, classes 3, test rows 50, threads 1." in text


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
    knn = {"head": "knn", **SMALL._asdict(), "fit/floor": 2.0, "score/floor": 1.0}
    npy = {"store": "npy", "rows": 9, "features": 4, "read/floor": 1.0, "gather/floor": None}
    before = ratios({"heads": [knn, {**knn, "head": "vim"}], "io": [npy]})
    after = ratios({"heads": [{**knn, "fit/floor": 3.0, "score/floor": None}], "io": [npy]})
    changes = compare(before, after)
    assert [(change["ratio"], change["grown"]) for change in changes] == [
        ("fit/floor", 1.5),
        ("score/floor", np.inf),
        ("read/floor", 1.0),
    ]
    what = "knn, rows 300, features 8, classes 3, test rows 50"
    assert grown(changes, 1.5) == [f"{what}: score/floor has grown from 1 to no result"]
    assert grown(changes, 1.4)[0] == f"{what}: fit/floor has grown from 2 to 3"
    with pytest.raises(UsageError, match="no ratio in common"):
        compare(before, ratios({"train": [{"head": "mlp", "features": 8, "classes": 3, "fit/floor": 1.0}]}))


def test_ratios_of_several_runs_are_their_medians():
    runs = [
        {"extract": [{"backbone": "a", "images": "jpeg", "extract/floor": value}]}
        for value in (1.0, 9.0, 2.0, None)
    ]
    assert ratios(*runs) == {("a, images jpeg", "extract/floor"): 2.0}


def test_a_page_keeps_the_sections_that_were_not_measured():
    heads = [{"head": "knn", **SMALL._asdict(), "fit": 1.0, "peers": {}, "note": ""}]
    stores = [{"store": "npy", "rows": 9, "features": 4, "read/floor": 1.0}]
    first = page({"heads": heads}, {"threads": 1}, "featood bench knn")
    both = page({"io": stores}, {"threads": 2}, "featood bench --io", first)
    assert (
        both.startswith(first.rstrip()) and "## Stores" in both and "Rows 9, features 4, threads 2." in both
    )
    assert page({"heads": heads}, {"threads": 1}, "featood bench knn", both) == both


def test_functions_are_called_in_turn():
    calls = []
    runs = {name: lambda name=name: calls.append(name) or float(len(calls)) for name in "ab"}
    assert in_turn(runs, 2) == [{"a": 3.0, "b": 4.0}, {"a": 5.0, "b": 6.0}]  # the first call does not count
    assert calls == list("ababab")
    assert timed(lambda: time.sleep(0.01))() >= 0.01


def test_stores_are_read_beside_npy():
    rows = measure_stores(300, 8, 1)
    assert [row["store"] for row in rows] == ["npy", "zarr", "hdf5"]
    assert rows[0]["read/floor"] == rows[0]["gather/floor"] == 1
    assert all(value > 0 for row in rows for key, value in row.items() if key != "store")


@pytest.mark.parametrize("store", ["npy", "zarr"])
def test_every_value_of_a_store_is_read(tmp_path, monkeypatch, store):
    values = np.arange(9000, dtype=np.float32).reshape(4500, 2)
    (stores._write_npy if store == "npy" else stores._write_store)(tmp_path / store, store, values)
    counted = []
    if store == "npy":
        plain = np.fromfile
        monkeypatch.setattr(np, "fromfile", lambda *given: (counted.append(part := plain(*given)), part)[1])
        read, _ = stores._npy(tmp_path / store, values, np.arange(3))
        assert read() > 0 and np.array_equal(np.concatenate(counted), values.ravel())
    else:
        stores._stored(tmp_path / store, values, np.arange(3))
        with pytest.raises(CacheCorrupt, match="does not return what was written"):
            stores._stored(tmp_path / store, values + 1, np.arange(3))


def test_extraction_is_measured_beside_forward_pass_and_decoding():
    packed, files = measure_extraction("cifar-resnet20", Extracting(batch_size=4, batches=2, device="cpu"), 1)
    assert (packed["images"], files["images"]) == ("array", "jpeg") and packed["count"] == files["count"] == 8
    assert packed["decode/s"] is None
    for row in (packed, files):
        speeds = [row[key] for key in ("decode/s", "forward/s") if row[key]]
        assert row["extract/s"] > 0 and row["setup s"] > 0
        assert row["extract/floor"] == pytest.approx(min(speeds) / row["extract/s"])  # of one round


def test_bare_decoding_gives_the_pixels_of_an_extraction(tmp_path, monkeypatch):
    images, found = extraction._files(tmp_path / "jpeg", 3, 90), []
    transform = IMAGENET.at_size(64)
    plain = np.asarray
    monkeypatch.setattr(extraction.np, "asarray", lambda value: found.append(plain(value)))
    extraction._decode(images, transform)
    monkeypatch.undo()
    assert np.array_equal(found, [transform.pixels(images.read(row)) for row in range(3)])


def test_an_update_is_measured_beside_a_bare_one():
    (row,) = measure_training("mlp", 8, 3, 1)
    assert row["fit ms"] > 0 and row["bare ms"] > 0
    assert row["fit/floor"] == pytest.approx(row["fit ms"] / row["bare ms"])
    assert row["overhead"] == pytest.approx(1 - row["bare ms"] / row["fit ms"])


@pytest.mark.parametrize("name", TRAINED)
def test_heads_whose_training_is_measured_train_in_batches(name):
    options = create_head(name, epochs=1, batch_size=512, validation=0.0).options
    assert head_class(name).trains and options["batch_size"] == 512


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
    assert body["heads"][0]["head"] == "energy" and body["environment"]["threads"] >= 1
    assert "| energy |" in (tmp_path / "speed.md").read_text()
    code, _, err = featood("bench", "energy", *sizes, "--compare", "a.json", "--slower", "1e9")
    assert code == 0, err
    body["heads"][0]["score/floor"] /= 1e6
    (tmp_path / "a.json").write_text(json.dumps(body))
    code, _, err = featood("bench", "energy", *sizes, "--compare", "a.json")
    assert code == 1 and "energy, rows 200" in err and "score/floor has grown from" in err
    code, _, err = featood("bench", "energy", "--rows", "200", "--repeat", "1", "--compare", "a.json")
    assert code == 2 and "no ratio in common" in err
    code, _, err = featood("bench", "enrgy")
    assert code == 2 and "energy" in err
    code, _, err = featood("bench", "energy", "--rows", "many")
    assert code == 2 and "whole numbers" in err


def test_the_command_measures_stores_extraction_and_training(featood, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("featood.speed.training.TRAINED", ("mlp",))
    sizes = [
        "--rows",
        "300",
        "--features",
        "8",
        "--classes",
        "3",
        "--repeat",
        "1",
        "--batch-size",
        "4",
        "--batches",
        "1",
    ]
    words = [
        "--io",
        "--extract",
        "--train",
        "--backbone",
        "cifar-resnet20",
        "--json",
        "a.json",
        "--page",
        "p.md",
    ]
    code, out, err = featood("bench", *words, *sizes, "--threads", "1")
    assert code == 0, err
    body = json.loads((tmp_path / "a.json").read_text())
    assert list(body) == ["environment", "io", "extract", "train"] and body["environment"]["threads"] == 1
    for name in list(body)[1:]:
        assert all(row[ratio] > 0 for row in body[name] for ratio in SECTIONS[name].ratios)
    assert "hdf5" in out and "jpeg" in out and "mlp" in out
    text = (tmp_path / "p.md").read_text()
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## Stores",
        "## Extraction",
        "## Training",
    ]
    code, _, err = featood("bench", "--io", "--plot", "a.svg")
    assert code == 2 and "name the heads" in err
