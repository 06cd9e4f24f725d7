"""Write a tiny cache in both stores, fitted heads, and their scores with this version of featood.

    python tests/golden/write.py

makes ``tests/golden/<version>/``. Every later version must read it and give the same scores (`test_golden.py`), so
existing folders are never overwritten.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

import featood
from featood.cache import Classifier, ColumnSpec, FeatureCache, Manifest, import_arrays, library_versions
from featood.cache.reader import encode_ids
from featood.pipeline.fitting import FitPlan, fit_head
from featood.pipeline.selection import select

STORES = ("zarr", "hdf5")
SETS = {"toy/train": 40, "toy/test": 20, "odd/test": 12}
UNREADABLE = (3, 11)
"""Rows of the training split that stand for images that could not be read."""
HEADS: dict[str, dict[str, Any]] = {
    "mahalanobis": {},
    "knn": {"k": 3},
    "mlp": {"epochs": 2, "depth": 2, "width": 4, "validation": 0.0},
    "realnvp": {"epochs": 2, "layers": 2, "depth": 2, "width": 4, "validation": 0.0},
    "rank-average": {"members": ("energy", "mahalanobis", "knn k=3")},
}


def rows_of(name: str, count: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Make three classes at the corners of a triangle; the odd set is elsewhere."""
    labels = rng.integers(0, 3, count) if name.startswith("toy") else np.full(count, -1)
    centre = np.eye(3, 4)[labels] * 4 if name.startswith("toy") else np.full((count, 4), -2.0)
    features = (centre + rng.normal(size=(count, 4))).astype("f4")
    return {"avg": features, "std": np.abs(features[:, :2]).astype("f2"), "labels": labels}


def write_extracted(cache: FeatureCache, key: str, rows: dict[str, np.ndarray], store: str) -> None:
    """Write a set in blocks of 32 rows, with a classifier and unreadable inputs."""
    weight = (np.arange(12).reshape(3, 4) / 10).astype("f4")
    classifier = Classifier(weight, np.array([0.5, 0.0, -0.5], "f4"))
    columns = {
        **rows,
        "logits": rows["avg"] @ weight.T + classifier.bias,
        "ids": encode_ids([f"{key}/{row}.png" for row in range(len(rows["avg"]))], 20),
    }
    backbone, dataset, split = key.split("/")
    manifest = Manifest(
        recipe={"backbone": backbone, "main": "avg"},
        data={"dataset": dataset, "split": split, "inputs_sha256": key},
        columns={name: ColumnSpec(values.shape[1:], str(values.dtype)) for name, values in columns.items()},
        rows=len(rows["avg"]),
        store=store,
        main="avg",
        block_rows=32,
        versions=library_versions(),
        run={"classes": ["a", "b", "c"], **({} if dataset == "toy" else {"role": "ood"})},
    )
    with cache.writer(key, manifest, classifier) as writer:
        for block in writer.pending():
            span = writer.span(block)
            lost = [row for row in UNREADABLE if span.start <= row < span.stop and split == "train"]
            writer.write(block, {name: values[span] for name, values in columns.items()}, lost)
        writer.finish(key)


def scores_of(root: Path, folder: Path) -> list[float]:
    """Return the scores of the test rows, followed by those of the odd rows."""
    cache, head = FeatureCache(root), featood.load_head(folder)
    return [float(value) for key in ("net/toy/test", "net/odd/test") for value in head.score(cache[key])]


def write(target: Path) -> None:
    """Write everything; heads are fitted once, on the zarr set."""
    for store in STORES:
        rng = np.random.default_rng(0)
        cache = FeatureCache(target / store)
        for name, count in SETS.items():
            write_extracted(cache, f"net/{name}", rows_of(name, count, rng), store)
    table = rows_of("toy", 10, rng)
    import_arrays(
        FeatureCache(target / "zarr"), "vectors/toy/train", {"avg": table["avg"]}, labels=table["labels"]
    )
    scores = {}
    selection = select(FeatureCache(target / "zarr"), "net", "toy")
    for name, options in HEADS.items():
        fit_head(selection, name, options, FitPlan(out=target / "heads" / name))
    for name in HEADS:
        scores[name] = scores_of(target / "zarr", target / "heads" / name)
    (target / "scores.json").write_text(json.dumps(scores, indent=1))
    for lock in target.rglob(".lock"):
        lock.unlink()


if __name__ == "__main__":
    target = Path(__file__).parent / featood.__version__
    if target.exists():
        sys.exit(f"{target} is there already; a golden folder is never written again")
    write(target)
