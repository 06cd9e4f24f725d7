"""``featood threshold`` and ``featood predict``."""

import io
import json
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from featood.data import open_dataset


@pytest.fixture
def detector(featood, tmp_path, monkeypatch):
    """Train, extract, fit and calibrate in a folder; return the output of ``threshold``."""
    monkeypatch.chdir(tmp_path)
    options = ["--arch", "lenet", "--dataset", "digits", "--image-size", "28", "--limit", "300"]
    for words in (
        [
            "train",
            "cross-entropy",
            *options,
            "--epochs",
            "3",
            "--lr",
            "0.05",
            "--batch-size",
            "32",
            "--out",
            "net",
        ],
        ["extract", "--backbone", "net", "--dataset", "digits"],
        ["fit", "knn", "--k", "5"],
    ):
        code, _, err = featood(*words)
        assert code == 0, err
    return featood("threshold", "knn", "--tpr", "0.9")


def test_from_a_head_to_a_decision_on_a_file(detector, featood, tmp_path, monkeypatch):
    code, out, err = detector
    assert code == 0, err
    assert "threshold: " in out and "calibrated on net/digits/test" in out
    assert "false alarms on new in-distribution images: " in out
    assert "detector: knn-detector; next: featood predict knn-detector FILES" in err
    images = open_dataset("digits", "test")
    folder = tmp_path / "photos"
    (folder / "below").mkdir(parents=True)
    for row in range(4):
        Image.fromarray(images.read(row)).save(folder / f"{row}.png")
    noise = np.random.default_rng(0).integers(0, 256, (28, 28), np.uint8)
    Image.fromarray(noise).save(folder / "below" / "noise.PNG")
    (folder / "notes.txt").write_text("no image")
    code, out, err = featood("predict", "knn-detector", "photos")
    assert code == 0, err
    lines = out.splitlines()
    assert [line.split()[3] for line in lines] == [
        *[f"photos/{n}.png" for n in range(4)],
        "photos/below/noise.PNG",
    ]
    assert lines[4].startswith("OUT ") and "of 5 images are out-of-distribution" in err
    code, out, _ = featood(
        "predict", "knn-detector", "photos/below/noise.PNG", "photos/0.png", "--json", "--exit-code"
    )
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 1 and rows[0]["out"] is True and rows[0]["p_value"] < 0.1 and rows[1]["class_name"]
    np.savez("packed.npz", images=np.stack([images.read(row) for row in range(4)]))
    monkeypatch.setattr("sys.stdin", io.StringIO("photos/0.png\n\nphotos/1.png\n"))
    code, out, _ = featood("predict", "knn-detector", "-", "packed.npz", "--parquet", "out.parquet")
    assert code == 0 and not out
    table = pq.read_table("out.parquet").to_pylist()
    assert [row["id"] for row in table] == [
        "photos/0.png",
        "photos/1.png",
        *[f"packed.npz#{n}" for n in range(4)],
    ]
    assert table[0]["score"] == pytest.approx(table[2]["score"], rel=1e-4)
    code, out, _ = featood("predict", "knn-detector", "photos/0.png", "--neighbours", "2", "--json")
    near = json.loads(out)["neighbours"]
    assert (
        code == 0 and len(near) == 2 and near[0]["distance"] <= near[1]["distance"] and near[0]["class_name"]
    )
    code, out, _ = featood("predict", "knn-detector", "photos/0.png", "--neighbours", "2")
    assert [line.split()[0] for line in out.splitlines()[1:]] == [f"{one['distance']:.3g}" for one in near]
    code, out, err = featood("predict", "knn-detector", "photos", "--false-share", "0.3", "--json")
    assert code == 0 and len(out.splitlines()) == 5 and "of which at most" in err
    # packages that take seconds to import, and that a trained network does not need
    code = "import sys; from featood import Detector; Detector.load('knn-detector')('photos/0.png')\n"
    code += "assert not {'torchvision', 'timm', 'scipy.stats', 'sklearn', 'matplotlib'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_mistakes(detector, featood, tmp_path):
    assert detector[0] == 0
    code, _, err = featood("threshold", "knn")
    assert code == 2 and "knn-detector exists; choose another folder by --out" in err
    code, _, err = featood("threshold", "knn", "--tpr", "0.9999", "--out", "strict")
    assert code == 3 and "are too few for a false-alarm rate of 0.01 %; 9999 are needed" in err
    assert not (tmp_path / "strict").exists()
    code, _, err = featood("threshold", "knn", "--split", "train", "--out", "again")
    assert code == 2 and "was fitted on net/digits/train" in err
    code, _, err = featood("predict", "nothing", "a.png")
    assert code == 3 and "nothing contains no detector; make one with featood threshold" in err
    code, _, err = featood("predict", "knn-detector", "none.png")
    assert code == 3 and "none.png does not exist" in err
    (tmp_path / "bad.png").write_bytes(b"x")
    code, out, err = featood("predict", "knn-detector", "bad.png")
    assert code == 3 and out.startswith("unread") and "1 of 1 images could not be read" in err
    (tmp_path / "empty").mkdir()
    code, _, err = featood("predict", "knn-detector", "empty")
    assert code == 3 and "empty has no images" in err
