"""Exported heads: their scores in the runtimes of the formats, and reasons for refusals."""

import dataclasses
import io
import json

import numpy as np
import pytest
import torch

from featood.cache import FeatureSet
from featood.errors import Mismatch, UsageError
from featood.heads import create_head
from featood.pipeline.export import export_head, exporting
from featood.testing import example_sets

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

TRAIN, TEST = example_sets()
HEADS = {
    "energy": {}, "openmax": {}, "mahalanobis": {}, "gmm": {}, "knn": {"k": 7}, "nnguide": {}, "lof": {}, "vim": {},
    "ash-s": {}, "ras": {}, "optfs": {}, "ora": {}, "cfood": {"rows": 50}, "nac": {}, "isolation-forest": {"trees": 3},
    "rank-average": {}, "dirichlet-differential-entropy": {}, "open-set": {"epochs": 1}, "relation": {}, "grood": {},
    "combood": {"k": 7}, "otod": {}, "nce": {"epochs": 1}, "radial-flow": {"epochs": 1},
}  # fmt: skip


def fitted(name, **options):
    return create_head(name, **{**HEADS.get(name, {}), **options}).fit(TRAIN)


def columns(names, rows):
    return {name: rows.logits if name == "logits" else rows.features[name] for name in names}


def onnx_scores(path, values):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert {entry.name for entry in session.get_inputs()} == set(values)
    return session.run(["score"], values)[0]


@pytest.mark.parametrize("name", HEADS)
def test_the_file_scores_as_the_head_does(name, tmp_path):
    head = fitted(name)
    made = export_head(head, TEST, tmp_path / "head.onnx")
    for rows in (TEST, TEST.rows(slice(3, 4))):  # any number of rows, also one
        expected = head.score(rows)
        found = onnx_scores(made.path, columns(made.inputs, rows))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6 * np.abs(head.score(TEST)).max())
    assert made.difference <= 1e-4 and made.rows == len(TEST) and made.compared_on == TEST.name


@pytest.mark.parametrize("name", ["knn", "nnguide", "lof"])
def test_rows_that_are_kept_in_float16(name, tmp_path):
    narrow, rows = (
        dataclasses.replace(data, features={"avg": data.features["avg"].astype("f2")})
        for data in (TRAIN, TEST)
    )
    head = create_head(name, **HEADS[name]).fit(narrow)
    assert head.state["rows"].dtype == torch.float16
    made = export_head(head, rows, tmp_path / "head.onnx")
    found = onnx_scores(made.path, columns(made.inputs, rows))
    np.testing.assert_allclose(found, head.score(rows), rtol=1e-4)


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
@pytest.mark.parametrize(("name", "options"), [("knn", {"k": 3}), ("knn", {"k": 3, "distance": "mean"}),
                                               ("nnguide", {"k": 3}), ("lof", {"neighbors": 3})])  # fmt: skip
def test_searches_gather_no_rows_and_tell_equal_rows(name, options, suffix, tmp_path):
    rows = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    rows[:5] = rows[0]  # nearest rows at the distance 0
    known = FeatureSet({"avg": rows}, logits=rows[:, :3], labels=np.arange(40) % 3, main="avg")
    head = create_head(name, **options).fit(known)
    made = export_head(head, known, tmp_path / f"head{suffix}")
    values = columns(made.inputs, known)
    if suffix == ".onnx":
        found = onnx_scores(made.path, values)
        graph = onnx.shape_inference.infer_shapes(onnx.load(made.path)).graph
        shapes = [[part.dim_value for part in info.type.tensor_type.shape.dim] for info in graph.value_info]
    else:
        program = torch.export.load(made.path)
        found = program.module()(*map(torch.from_numpy, values.values())).detach().numpy()
        values = [node.meta.get("val") for node in program.graph.nodes]
        shapes = [value.shape for value in values if isinstance(value, torch.Tensor)]
    np.testing.assert_allclose(found, head.score(known), rtol=1e-6, atol=1e-9)
    assert len(shapes) > 5 and not any(len(shape) == 3 and shape[2] == 6 for shape in shapes)  # [B, k, D]


@pytest.mark.parametrize("name", ["mahalanobis", "knn", "rankfeat"])
def test_a_torch_archive_can_be_loaded_again(name, tmp_path):
    head = fitted(name)
    made = export_head(head, TEST, tmp_path / "head.pt2")
    extra = {"featood.json": ""}
    program = torch.export.load(io.BytesIO(made.path.read_bytes()), extra_files=extra)
    values = [torch.as_tensor(one) for one in columns(made.inputs, TEST).values()]
    with torch.no_grad():
        found = program.module()(*values).numpy()
    np.testing.assert_allclose(found, head.score(TEST), rtol=1e-6)
    assert json.loads(extra["featood.json"])["head"] == name


def test_mahalanobis_in_a_file_is_the_formula(tmp_path):
    known = TRAIN.labels >= 0
    rows, labels = TRAIN.features["avg"][known].astype(float), TRAIN.labels[known]
    made = export_head(fitted("mahalanobis"), TEST, tmp_path / "head.onnx")
    means = np.stack([rows[labels == label].mean(0) for label in range(5)])
    gaps = rows - means[labels]
    inverse = np.linalg.inv(gaps.T @ gaps / len(rows))
    expected = []
    for row in TEST.features["avg"].astype(float):
        expected.append(min((row - mean) @ inverse @ (row - mean) for mean in means))
    np.testing.assert_allclose(onnx_scores(made.path, {"avg": TEST.features["avg"]}), expected, rtol=1e-6)


def test_the_metadata_say_what_the_inputs_are(tmp_path):
    made = export_head(fitted("gmm"), TEST, tmp_path / "head.onnx")
    (entry,) = onnx.load(made.path).metadata_props
    found = json.loads(entry.value)
    assert entry.key == "featood.json" and found["inputs"] == ["avg"] and found["outputs"] == ["score"]
    assert found["options"]["covariance"] == "full" and found["score"].startswith("higher")
    assert {"featood", "torch"} <= set(found["versions"])


def test_a_row_without_a_finite_score_is_the_worst(tmp_path):
    made = export_head(fitted("mahalanobis"), TEST, tmp_path / "head.onnx")
    rows = TEST.features["avg"][:3].copy()
    rows[1, 0] = np.nan
    scores = onnx_scores(made.path, {"avg": rows})
    assert scores[1] == 1e150 and scores[[0, 2]].max() < 1e6


@pytest.mark.parametrize(
    ("name", "suffix", "why"),
    [
        ("rankfeat", ".onnx", r"rankfeat .* to ONNX: ONNX has no operator aten\.\w*eigh.*; a \.pt2 file"),
        ("energy", ".txt", r"ends in \.onnx or \.pt2"),
    ],
)  # fmt: skip
def test_refusals_say_why(name, suffix, why, tmp_path):
    with pytest.raises(UsageError, match=why):
        export_head(fitted(name), TEST, tmp_path / f"head{suffix}")
    assert not list(tmp_path.iterdir())


def test_a_head_that_computes_outside_of_pytorch_is_refused(tmp_path, monkeypatch):
    head = fitted("norm")
    monkeypatch.setattr(
        type(head), "score_block", lambda self, block, _: torch.from_numpy(self.vectors(block).numpy().sum(1))
    )
    with pytest.raises(UsageError, match="norm cannot be exported: it computes outside of PyTorch"):
        export_head(head, TEST, tmp_path / "head.onnx")


def test_a_file_with_other_scores_is_not_written(tmp_path, monkeypatch):
    head = fitted("mahalanobis")
    monkeypatch.setattr(exporting, "HeadGraph", Shifted)
    with pytest.raises(
        Mismatch, match=r"its scores differ by 0\.0\d+, relative to the original; at most 0\.0001"
    ):
        export_head(head, TEST, tmp_path / "head.onnx")
    assert not list(tmp_path.iterdir())


class Shifted(exporting.HeadGraph):
    def forward(self, *columns):
        return 1.01 * super().forward(*columns)


def test_plain_features_are_enough(tmp_path):
    rows = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    head = create_head("knn", k=3).fit(rows)
    made = export_head(head, rows, tmp_path / "head.onnx")
    found = onnx_scores(made.path, {made.inputs[0]: rows})
    lengths = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    expected = np.sort(np.linalg.norm(lengths[:, None] - lengths[None], axis=2), axis=1)[:, 2]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
