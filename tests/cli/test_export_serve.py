"""``featood export`` and ``featood serve``."""

import http.client
import json
import re
import signal
import subprocess
import sys

import pytest
import torch
from small_detector import small_detector

from featood.data import open_dataset
from featood.pipeline.detectors import Detector


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("made")
    detector, _ = small_detector(place, k=5)
    detector.head.save(place / "cache" / "net" / "digits" / "heads" / "knn")
    detector.save(place / "knn-detector")
    return place


def test_a_detector_and_a_head_are_exported(place, featood, monkeypatch):
    monkeypatch.chdir(place)
    code, out, err = featood("export", "knn-detector", "whole.onnx")
    assert code == 0, err
    assert "inputs: images; outputs: score, p_value, out, predicted" in out and "written: whole.onnx" in err
    code, out, err = featood("export", "knn-detector", "part.pt2", "--head-only", "--json")
    assert code == 0, err
    assert json.loads(out)["inputs"] == ["penultimate"] and (place / "part.pt2").exists()
    code, out, err = featood("export", "knn", "head.pt2", "--cache", "cache")
    assert code == 0 and "256 rows of net/digits/test" in out, err


def test_mistakes_are_refused(place, featood, monkeypatch):
    monkeypatch.chdir(place)
    code, _, err = featood("export", "knn", "head.pt2", "--cache", "cache", "--head-only")
    assert code == 2 and "knn is a head, not the folder of a detector" in err
    code, _, err = featood("export", "knn-detector", "head.bin")
    assert code == 2 and "name a file that ends in .onnx or .pt2" in err


def test_changed_golden_inputs_refuse_export_and_service(place, featood, monkeypatch):
    monkeypatch.chdir(place)
    plain = lambda self, pixels: torch.from_numpy(pixels).permute(0, 3, 1, 2).float()  # noqa: E731
    monkeypatch.setattr("featood.extractors.transform.Transform.normalise", plain)
    for words in (["export", "knn-detector", "x.pt2"], ["serve", "knn-detector", "--port", "0"]):
        code, _, err = featood(*words)
        assert code == 5 and "self-test failed: the preprocessing makes other inputs" in err
    assert not (place / "x.pt2").exists()


def test_a_service_answers_until_it_is_terminated(place, tmp_path):
    command = [sys.executable, "-m", "featood", "serve", str(place / "knn-detector"), "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    try:
        line = process.stderr.readline()
        port = int(re.fullmatch(r"serving on http://127\.0\.0\.1:(\d+)\n", line)[1])
        connection = http.client.HTTPConnection("127.0.0.1", port)
        image = (place / "knn-detector" / "golden-0.png").read_bytes()
        connection.request("POST", "/predict", image)
        score = json.loads(connection.getresponse().read())["score"]
        expected = Detector.load(place / "knn-detector")(open_dataset("digits", "test").read(0)).score
        assert score == pytest.approx(expected, rel=1e-4)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0 and process.stderr.read() == ""
    finally:
        process.kill()
        process.stderr.close()
