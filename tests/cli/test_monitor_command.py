"""``featood monitor``."""

import io
import json

import numpy as np
import pytest
from PIL import Image
from small_detector import small_detector

from featood.data import open_dataset


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a folder with a detector, a folder of 60 digits, and packed noise."""
    place = tmp_path_factory.mktemp("place")
    small_detector(place, k=5)[0].save(place / "knn-detector")
    images = open_dataset("digits", "test")
    (place / "digits").mkdir()
    for row in range(60):
        Image.fromarray(images.read(row)).save(place / "digits" / f"{row:02}.png")
    noise = np.random.default_rng(0).integers(0, 256, (60, 28, 28), np.uint8)
    np.savez(place / "noise.npz", images=noise)
    return place


@pytest.fixture(autouse=True)
def inside(place, monkeypatch):
    monkeypatch.chdir(place)


def test_a_stream_that_changes(featood, place, tmp_path):
    options = [
        "--batch",
        "25",
        "--page",
        str(tmp_path / "page.html"),
        "--prometheus",
        str(tmp_path / "figures.prom"),
    ]
    code, out, err = featood("monitor", "knn-detector", "digits", *options, "--exit-code")
    assert code == 0, err
    assert [line.split(":")[0] for line in out.splitlines()] == ["batch 1", "batch 2", "batch 3"]
    assert "25 rows, " in out and "batch 3: 10 rows" in out and "no alarm in 60 rows" in err
    assert "No alarm." in (tmp_path / "page.html").read_text()
    code, out, err = featood("monitor", "knn-detector", "digits", "noise.npz", *options, "--exit-code")
    assert code == 1 and "ALARM at row " in err and "(noise.npz#" in err and "scores are higher" in err
    assert "false with a probability of at most 1 %" in err and "sensor shift: " in err
    assert "  ALARM: " in out.splitlines()[-1] and "ALARM" not in out.splitlines()[0]
    assert "Diagnosis: sensor shift" in (tmp_path / "page.html").read_text()
    figures = (tmp_path / "figures.prom").read_text()
    assert 'featood_monitor_alarm{monitor="knn-detector"} 1\n' in figures
    assert 'featood_monitor_rows_total{monitor="knn-detector"} 120\n' in figures
    code, _, _ = featood("monitor", "knn-detector", "noise.npz", "--no-test")
    assert code == 0


def test_a_state_is_continued_or_resumed(featood, tmp_path, monkeypatch):
    state = ["--state", str(tmp_path / "state"), "--batch", "20", "--json"]
    names = "".join(f"digits/{row:02}.png\n" for row in range(40))
    monkeypatch.setattr("sys.stdin", io.StringIO(names))
    code, out, err = featood("monitor", "knn-detector", "-", *state, "--false-alarm", "0.05")
    assert code == 0, err
    assert [json.loads(line)["all_rows"] for line in out.splitlines()] == [20, 40]
    # the same stream, which has grown
    code, out, err = featood("monitor", "knn-detector", "digits", *state, "--resume")
    assert code == 0, err
    rows = [json.loads(line) for line in out.splitlines()]
    assert [(row["batch"], row["rows"], row["all_rows"]) for row in rows] == [(3, 20, 60)]
    # another one
    code, out, err = featood("monitor", "knn-detector", "noise.npz", *state, "--resume")
    assert code == 5 and not out and "the first 60 images of this stream are not those" in err
    code, out, err = featood("monitor", "knn-detector", "noise.npz", *state)
    assert code == 0, err
    assert json.loads(out.splitlines()[-1])["all_rows"] == 120
    assert json.loads(out.splitlines()[-1])["alarm"]["change"] == "higher"
    # nothing new
    code, out, err = featood("monitor", "knn-detector", "noise.npz", *state, "--resume", "--exit-code")
    assert code == 1 and not out and "ALARM at row" in err


def test_names_on_standard_input_are_taken_as_they_come(featood, monkeypatch):
    """The first batch is printed before the third name is read."""
    taken = []

    def names():
        for row in range(4):
            taken.append(row)
            yield f"digits/{row:02}.png\n"

    from featood.pipeline.monitoring import Monitor

    before = []
    feed = Monitor.feed
    monkeypatch.setattr(Monitor, "feed", lambda self, images: before.append(len(taken)) or feed(self, images))
    monkeypatch.setattr("sys.stdin", names())
    code, out, err = featood("monitor", "knn-detector", "-", "--batch", "2", "--no-test")
    assert code == 0, err
    assert before == [2, 4] and len(out.splitlines()) == 2


def test_mistakes(featood, tmp_path):
    code, _, err = featood("monitor", "knn-detector", "digits", "--resume")
    assert code == 2 and "--resume needs the folder of the state: add --state" in err
    code, _, err = featood("monitor", "knn-detector")
    assert code == 2 and "STREAM" in err
    code, _, err = featood("monitor", "nothing", "digits")
    assert code == 3 and "nothing contains no detector" in err
    code, _, err = featood("monitor", "knn-detector", "none.png")
    assert code == 3 and "none.png does not exist" in err
    code, _, err = featood("monitor", "knn-detector", "digits", "--false-alarm", "1")
    assert code == 2 and "--false-alarm" in err
    code, _, err = featood("monitor", "knn-detector", "digits", "--batch", "0")
    assert code == 2 and "--batch" in err
    (tmp_path / "bad.png").write_bytes(b"x")
    code, out, err = featood("monitor", "knn-detector", str(tmp_path / "bad.png"), "digits/00.png")
    assert code == 0 and "1 rows, 1 not read" in out and "1 images could not be read" in err
    state = tmp_path / "state"
    state.mkdir()
    (state / "monitor.safetensors").write_bytes(b"x")
    code, _, err = featood("monitor", "knn-detector", "digits", "--state", str(state))
    assert code == 4 and "cannot be decoded; delete the folder to begin again" in err
