"""Learned densities beside Gaussian classes in the same space: mean AUROC over OOD sets.

    python benchmarks/class_densities.py densities.jsonl --cache CACHE --backbone NAME --dataset cifar10 \
        --ood cifar100 tiny-imagenet-resize textures --heads realnvp maf

Each head is fitted with its defaults, apart from the epochs, and scored beside ``gmm --covariance tied`` in the space
of the head; `one` is a single Gaussian. Each fit adds a line of JSON to the file; fits already in the file are skipped.
Sets are opened as by ``residual_gain.py``.
"""

from __future__ import annotations

__all__: list[str] = []

import argparse
import json
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import show
from residual_gain import open_sets

from featood import FeatureSet, create_head
from featood.metrics import accuracy, auroc

HEADS = (
    "realnvp",
    "maf",
    "glow-vector",
    "planar-flow",
    "radial-flow",
    "spline-flow",
    "nce",
    "ssm",
    "cd",
    "jem",
    "vera",
    "natpn",
)


def mean_auroc(head: Any, test: FeatureSet, odd: Mapping[str, FeatureSet]) -> float:
    """Return the mean AUROC (%) over the sets."""
    known = np.asarray(head.score(test))
    return float(np.mean([100 * auroc(known, np.asarray(head.score(rows))) for rows in odd.values()]))


def main() -> None:
    """Run the fits that are not in the file, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, help="file of JSON lines to continue")
    parser.add_argument("--cache", default="feature_cache")
    parser.add_argument("--backbone", required=True, help="folder in the cache")
    parser.add_argument("--dataset", default="cifar10")
    parser.add_argument("--ood", nargs="+", required=True)
    parser.add_argument("--heads", nargs="+", default=HEADS)
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--test-rows", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=20, help="0 for those of each head")
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    found: list[dict[str, Any]] = []
    if given.file.exists():
        found = [json.loads(text) for text in given.file.read_text(encoding="utf-8").splitlines()]
    done = {(row["backbone"], row["head"]) for row in found}
    train, test, odd = open_sets(given)
    single = FeatureSet(
        {train.main: train.features[train.main]}, labels=torch.zeros(len(train), dtype=torch.long)
    )
    for name in given.heads:
        if (given.backbone, name) in done:
            continue
        start = time.process_time()
        head = create_head(name, **({"epochs": given.epochs} if given.epochs else {})).fit(train)
        row: dict[str, Any] = {"backbone": given.backbone, "head": name, "space": head.options["space"]}
        row |= {"seconds": time.process_time() - start, "auroc": mean_auroc(head, test, odd)}
        for key, rows in (("classes", train), ("one", single)):
            gaussian = create_head("gmm", covariance="tied", space=row["space"]).fit(rows)
            row[key] = mean_auroc(gaussian, test, odd)
        if (logits := head.classify(test)) is not None:
            row["accuracy"] = 100 * accuracy(np.asarray(logits), np.asarray(test.labels))
        found.append(row)
        with given.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
    show("mean AUROC (%); classes, one: Gaussians in the same space", found)


if __name__ == "__main__":
    main()
