"""Trainings for every point of a grid."""

import json

import pytest

from featood.errors import UsageError
from featood.extractors.trainer import Architecture, TrainOptions, read_record
from featood.pipeline.swept_training import train_swept
from featood.pipeline.train_plan import TrainPlan


def words(out, *more):
    return ("train", "cross-entropy", "--dataset", "digits", "--arch", "lenet", "--image-size", "28", "--limit", "64",
            "--epochs", "1", "--batch-size", "32", "--out", str(out), *more)  # fmt: skip


def test_a_network_is_trained_for_each_point_and_seed(featood, tmp_path):
    grid = ("--sweep", "lr=0.05,0.01", "--sweep", "smoothing=0,0.1", "--repeat", "2")
    code, out, err = featood(*words(tmp_path / "grid", *grid))
    assert code == 0, err
    labels = [f"cross-entropy@lr={lr},smoothing={s}" for lr in ("0.05", "0.01") for s in ("0.0", "0.1")]
    for label in labels:
        assert label in out
        for seed in (0, 1):
            record = read_record(tmp_path / "grid" / label / f"seed-{seed}")
            assert f"lr={record['training']['lr']:g}" in label and record["training"]["seed"] == seed
            assert f"smoothing={record['options']['smoothing']}" in label
    assert "validation accuracy" in out and "±" in out
    before = (tmp_path / "grid" / labels[0] / "seed-0" / "model.safetensors").stat().st_mtime_ns
    code, out, err = featood(*words(tmp_path / "grid", *grid, "--json"))
    assert code == 0 and err.count("is complete") == 8
    points = json.loads(out)["points"]
    assert list(points) == labels and len(points[labels[0]]["runs"]) == 2
    assert (tmp_path / "grid" / labels[0] / "seed-0" / "model.safetensors").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    "text, message",
    [
        ("speed=1,2", "cross-entropy has no option 'speed'"),
        ("lr=fast", "'fast' is not a value for lr"),
        ("seed=0,1", "a grid has no seeds"),
        ("lr=0.1,-1", "lr must be at least 0"),
    ],
)
def test_a_wrong_grid_is_refused_before_the_first_training(featood, tmp_path, text, message):
    code, _, err = featood(*words(tmp_path / "grid", "--sweep", text))
    assert code == 2 and message in err
    assert not (tmp_path / "grid").exists()


def test_values_of_models_are_checked_before_the_first_training(tmp_path):
    plan = TrainPlan(
        model="cross-entropy", dataset="digits", architecture=Architecture("lenet"), out=tmp_path / "x"
    )
    with pytest.raises(UsageError, match="smoothing must be at least 0 and at most 1"):
        train_swept(plan, TrainOptions(epochs=1), {"smoothing": [0.0, 2.0]})
    assert not (tmp_path / "x").exists()
