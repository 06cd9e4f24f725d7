"""Detection by the networks that each model of ``featood train`` trains, with its own score, MSP and the energy.

Each model and each architecture is trained in the same way on the first training images, and its network is tested on
held-out images and on those of another dataset. Each network adds a line of JSON to the file; those already in the file
are skipped. An architecture may have options, as ``wrn-16-4:sn=true,mod=true``.

    python benchmarks/models.py models.jsonl --dataset fashion-mnist --ood mnist --outliers omniglot/test
    python benchmarks/models.py nets.jsonl --models cross-entropy --archs all --limit 1000 --test-limit 1000
"""

from __future__ import annotations

__all__ = ["ARCHITECTURES", "OWN", "architecture", "main", "measure"]

import argparse
import itertools
import json
import shutil
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from common import show

from featood.cache import FeatureCache, FeatureSet, slug
from featood.data import open_dataset
from featood.extractors.backbones import resolve_backbone
from featood.extractors.extract import ExtractOptions
from featood.extractors.models import list_models
from featood.extractors.trainer import Architecture, TrainOptions
from featood.heads import create_head
from featood.metrics import auroc
from featood.pipeline.extraction import extract_sets
from featood.pipeline.train_plan import TrainPlan
from featood.pipeline.training import train_extractor

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
ARCHITECTURES = (
    *("lenet", "mnist-conv", "mnist-convnet", "vggm", "cifar-vgg16", "cifar-vgg16:sn=true,mod=true"),
    *("cifar-resnet20", "cifar-resnet20:sn=true", "cifar-resnet18", "cifar-resnet18:sn=true,mod=true"),
    *(
        "cifar-resnet34",
        "cifar-resnet50",
        "wrn-16-4",
        "wrn-16-4:sn=true,mod=true",
        "wrn-16-4:bottleneck_dim=64",
    ),
    *("densenet-40-12", "densenet-40-12:sn=true", "timm:resnet18", "timm:resnet18:sn=true"),
)
"""What ``--archs all`` stands for; torchvision's networks need colour images."""


def architecture(text: str) -> Architecture:
    """Return the architecture of a text such as ``wrn-16-4:sn=true,mod=true``."""
    name, _, pairs = text.rpartition(":")
    if "=" not in pairs:
        return Architecture(text)
    options = dict(pair.split("=") for pair in pairs.split(","))
    return Architecture(name, {key: json.loads(value) for key, value in options.items()})


def measure(name: str, arch: str, folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Train a network, and return its accuracy and the AUROC of the scores."""
    cls = list_models()[name]
    options = {"queue": given.queue, "neighbor": given.queue // 3, "boundary": given.queue // 5}
    known = {field: value for field, value in options.items() if field in cls.__dataclass_fields__}
    began = time.monotonic()
    shutil.rmtree(folder, ignore_errors=True)
    plan = TrainPlan(
        model=name, dataset=given.dataset, architecture=architecture(arch), out=folder / "net", options=known,
        outliers=given.outliers if "outliers" in cls.card.needs else "", limit=given.limit,
        image_size=given.image_size,
    )  # fmt: skip
    how = TrainOptions(
        epochs=given.epochs,
        batch_size=given.batch_size,
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
    cache, backbone = FeatureCache(folder / "cache"), resolve_backbone(str(folder / "net"))
    assert backbone.transform is not None

    def features(dataset: str, split: str) -> FeatureSet:
        images = open_dataset(dataset, split)
        limit = given.test_limit if split == "test" else given.limit
        images = images.subset(range(min(limit or len(images), len(images))))
        options = ExtractOptions(taps=backbone.taps)
        return extract_sets(cache, backbone, [images], backbone.transform, options)[0].features

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
        "arch": arch,
        "accuracy": None if logits is None else 100 * float(np.mean(logits[:].argmax(1) == test.labels[:])),
        "score": " ".join([head, *(f"{key}={value}" for key, value in options.items())]),
        "auroc": detection(head, options),
        "auroc_msp": None if logits is None else detection("msp", {}),
        "auroc_energy": None if logits is None else detection("energy", {}),
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
    parser.add_argument("--archs", nargs="*", default=["mnist-convnet"], help="architectures, or: all")
    parser.add_argument("--limit", type=int, default=10000)
    parser.add_argument("--test-limit", type=int, default=0, help="images of each test set (0: all)")
    parser.add_argument("--image-size", type=int, default=0, help="side in pixels (0: that of the dataset)")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--clip", type=float, default=5.0)
    parser.add_argument("--queue", type=int, default=300, help="length of the queues of vos and npos")
    parser.add_argument("--folder", type=Path, default=Path("models"), help="for networks and features")
    given = parser.parse_args()
    rows = []
    if given.file.exists():
        rows = [json.loads(line) for line in given.file.read_text().splitlines()]
    done = {(row["model"], row["arch"]) for row in rows}
    archs = ARCHITECTURES if given.archs == ["all"] else given.archs
    for name, arch in itertools.product(given.models, archs):
        if (name, arch) not in done:
            rows.append(measure(name, arch, given.folder / f"{name}-{slug(arch)}", given))
            with given.file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(rows[-1]) + "\n")
    show(f"{given.dataset} against {given.ood}", sorted(rows, key=lambda row: (row["model"], row["arch"])))


if __name__ == "__main__":
    main()
