"""Detection by the networks that each model of ``featood train`` trains, with its own score and with MSP.

Each model is trained in the same way on the first training images, and its network is tested on held-out images and on
those of another dataset. Each model adds a line of JSON to the file; models already in the file are skipped.

    python benchmarks/models.py models.jsonl --dataset fashion-mnist --ood mnist --outliers omniglot/test
"""

from __future__ import annotations

__all__ = ["OWN", "main", "measure"]

import argparse
import json
import shutil
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from common import show

from featood.cache import FeatureCache, FeatureSet
from featood.extractors.models import list_models
from featood.extractors.trainer import Architecture, TrainOptions
from featood.heads import create_head
from featood.metrics import auroc
from featood.pipeline.extraction import ImageSource, Network, extract_dataset
from featood.pipeline.training import TrainPlan, train_extractor

KNN: tuple[str, dict[str, Any]] = ("knn", {})
COLUMN: tuple[str, dict[str, Any]] = ("column", {})
OWN: Mapping[str, tuple[str, dict[str, Any]]] = {
    "background-class": ("background", {}),
    "cac": COLUMN,
    "center": COLUMN,
    "cider": KNN,
    "confidence-branch": ("column", {"feature": "confidence.avg", "negate": True}),
    "deep-sad": COLUMN,
    "deep-svdd": COLUMN,
    "energy-finetune": ("energy", {}),
    "godin": ("max-logit", {}),
    "ii": COLUMN,
    "mcd": ("entropy", {}),
    "mchad": COLUMN,
    "natpn": ("precision", {}),
    "npos": KNN,
    "objectosphere": ("norm", {}),
    "postnet": ("energy", {}),
    "prior-network": ("precision", {}),
    "reweight-ood": ("mahalanobis", {}),
    "rts": ("column", {"feature": "variance.avg"}),
    "scone": ("energy", {}),
    "supcon": KNN,
    "vos": ("energy", {}),
}
"""Head and options that score each model's network; MSP for the others."""


def measure(name: str, folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Train a model, and return its accuracy and the AUROC of both scores."""
    cls = list_models()[name]
    options = {"queue": given.queue, "neighbor": given.queue // 3, "boundary": given.queue // 5}
    known = {field: value for field, value in options.items() if field in cls.__dataclass_fields__}
    began = time.monotonic()
    shutil.rmtree(folder, ignore_errors=True)
    plan = TrainPlan(
        model=name, dataset=given.dataset, architecture=Architecture(given.arch), out=folder / "net", options=known,
        outliers=given.outliers if "outliers" in cls.card.needs else "", limit=given.limit,
    )  # fmt: skip
    how = TrainOptions(
        epochs=given.epochs,
        optimizer="adam",
        lr=given.lr,
        weight_decay=0.0,
        augment=("crop:2",),
        clip=given.clip,
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train_extractor(plan, how)
    seconds = time.monotonic() - began
    cache, network = FeatureCache(folder / "cache"), Network(str(folder / "net"))

    def features(dataset: str, split: str) -> FeatureSet:
        extract_dataset(cache, ImageSource(dataset, [split]), network)
        return cache[f"net/{dataset}/{split}"]

    test, ood = features(given.dataset, "test"), features(given.ood, "test")

    def detection(head: str, options: dict[str, Any]) -> float:
        scorer = create_head(head, **options)
        if scorer.learns:
            scorer.fit(features(given.dataset, "train"))
        return 100 * auroc(scorer.score(test), scorer.score(ood))

    head, options = OWN.get(name, ("msp", {}))
    logits = test.logits
    return {
        "model": name,
        "accuracy": None if logits is None else 100 * float(np.mean(logits[:].argmax(1) == test.labels[:])),
        "score": " ".join([head, *(f"{key}={value}" for key, value in options.items())]),
        "auroc": detection(head, options),
        "auroc_msp": None if logits is None else detection("msp", {}),
        "seconds": round(seconds),
        "warnings": len([entry for entry in caught if "diverged" in str(entry.message)]),
    }


def main() -> None:
    """Measure all models, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("--models", nargs="*", default=list(list_models()))
    parser.add_argument("--dataset", default="fashion-mnist")
    parser.add_argument("--ood", default="mnist")
    parser.add_argument("--outliers", default="omniglot/test")
    parser.add_argument("--arch", default="mnist-convnet")
    parser.add_argument("--limit", type=int, default=10000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--clip", type=float, default=5.0)
    parser.add_argument("--queue", type=int, default=300, help="length of the queues of vos and npos")
    parser.add_argument("--folder", type=Path, default=Path("models"), help="for networks and features")
    given = parser.parse_args()
    rows = []
    if given.file.exists():
        rows = [json.loads(line) for line in given.file.read_text().splitlines()]
    done = {row["model"] for row in rows}
    for name in given.models:
        if name not in done:
            rows.append(measure(name, given.folder / name, given))
            with given.file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(rows[-1]) + "\n")
    show(f"{given.dataset} against {given.ood}", sorted(rows, key=lambda row: row["model"]))


if __name__ == "__main__":
    main()
