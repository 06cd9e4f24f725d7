"""Exported detectors: network, head and thresholds as one graph."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image
from small_detector import small_detector, with_calibration

from featood.data import open_dataset
from featood.errors import Mismatch, UsageError
from featood.pipeline.export import export_detector

onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return small_detector(tmp_path_factory.mktemp("made"), k=5)


def outputs(path, images):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_outputs()]
    return dict(zip(names, session.run(names, {"images": images}), strict=True))


def digits(count=150):
    images = open_dataset("digits", "test")
    return [images.read(row) for row in range(count)]


def test_the_file_decides_on_other_images_as_the_detector_does(made, tmp_path):
    detector, _ = made
    found = export_detector(detector, tmp_path / "digits.onnx")
    assert found.compared_on == "golden images" and found.difference <= 1e-4 and found.resizing is None
    images = digits()
    expected = [detector(image) for image in images]
    values = outputs(found.path, np.stack([detector.network.transform.pixels(image) for image in images]))
    scores = np.array([one.score for one in expected])
    np.testing.assert_allclose(values["score"], scores, rtol=1e-3)  # a feature may round to another float16
    np.testing.assert_array_equal(values["predicted"], [one.predicted for one in expected])
    # a calibration row ties with itself, so rounding may move it by one rank
    steps = 1.5 / (len(detector.calibration.scores) + 1)
    np.testing.assert_allclose(values["p_value"], [one.p_value for one in expected], atol=steps)
    clear = np.abs(scores / detector.calibration.thresholds[0] - 1) > 1e-4
    np.testing.assert_array_equal(values["out"][clear], np.array([one.out for one in expected])[clear])
    assert 0 < values["out"].sum() < len(images) and len(set(values["predicted"].tolist())) > 1
    (entry,) = pytest.importorskip("onnx").load(found.path).metadata_props
    facts = json.loads(entry.value)
    assert facts["transform"] == detector.network.transform.as_json() and facts["image_size"] == [28, 28]
    assert facts["thresholds"] == detector.calibration.thresholds.tolist() and len(facts["classes"]) == 10


def test_thresholds_by_class_are_part_of_the_graph(made, tmp_path):
    detector, test = made
    rng = np.random.default_rng(0)
    scores = np.asarray(detector.head.score(test)) * 1.001  # no ties
    limits = np.quantile(scores, rng.uniform(0.2, 0.9, 10))
    classes = np.asarray(test.logits).argmax(1)
    other = with_calibration(detector, scores=scores, thresholds=limits, classes=classes)
    found = export_detector(other, tmp_path / "digits.onnx")
    images = digits()
    values = outputs(found.path, np.stack([detector.network.transform.pixels(image) for image in images]))
    for row in range(len(images)):
        score, label = scores[row] / 1.001, classes[row]
        own = scores[classes == label]
        assert values["p_value"][row] == pytest.approx((sum(own >= score) + 1) / (len(own) + 1), abs=1e-9)
        assert values["out"][row] == (score > limits[label])


def test_the_graph_can_resize_and_the_difference_is_reported(made, tmp_path):
    detector, _ = made
    found = export_detector(detector, tmp_path / "digits.onnx", image_size=(40, 36))
    assert found.difference <= 1e-4 < found.resizing <= 0.05
    images = [np.asarray(Image.fromarray(image).resize((36, 40))) for image in digits(8)]
    values = outputs(found.path, np.stack(images)[..., None])
    spread = detector.calibration.scores.std()
    np.testing.assert_allclose(
        values["score"], [detector(image).score for image in images], atol=0.1 * spread
    )


def test_without_golden_images_noise_is_scored(made, tmp_path):
    detector = dataclasses.replace(made[0], golden=None)
    found = export_detector(detector, tmp_path / "digits.pt2")
    assert found.compared_on == "images of noise" and found.path.exists()


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("limits", "its decisions differ"),
        ("known", "its p-values differ"),
        ("weight", "its scores differ by"),
    ],
)
def test_a_file_that_decides_otherwise_is_not_written(made, tmp_path, monkeypatch, name, what):
    from featood.pipeline.export import exporting

    class Changed(exporting.DetectorGraph):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            if name == "limits":
                self.limits = -self.limits
            elif name == "known":
                self.known = self.known + 5 * self.known.std()

        def forward(self, images):
            return super().forward(images // 2 if name == "weight" else images)

    monkeypatch.setattr(exporting, "DetectorGraph", Changed)
    with pytest.raises(Mismatch, match=what):
        export_detector(made[0], tmp_path / "digits.pt2")
    assert not list(tmp_path.iterdir())


def test_what_a_graph_cannot_do_is_refused(made, tmp_path):
    detector, _ = made
    network = detector.network
    before = network.transform
    try:
        network.transform = dataclasses.replace(before, interpolation="lanczos")
        with pytest.raises(UsageError, match="lanczos interpolation cannot be resized in a graph"):
            export_detector(dataclasses.replace(detector, golden=None), tmp_path / "x.pt2", (40, 36))
    finally:
        network.transform = before
    options = network.forward.options
    try:
        network.options = dataclasses.replace(options, precision="bfloat16")
        with pytest.raises(UsageError, match="computes in bfloat16"):
            export_detector(detector, tmp_path / "x.pt2")
    finally:
        network.options = options
    assert not list(tmp_path.iterdir()) and torch.is_grad_enabled()
