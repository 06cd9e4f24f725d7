"""Reproduction of published figures with published weights: accuracies, and detection of Fashion-MNIST and notMNIST.

    python benchmarks/published.py --data DIR --cache CACHE

DIR contains the packed sets and a folder ``weights``. Each network is extracted into the cache once. The published
FPR95 corresponds to ``fpr95_ood`` (share of ID rows flagged when 95 % of OOD rows are flagged).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from common import save, show

from featood import create_head, evaluate, open_cache
from featood.data import open_dataset
from featood.extractors.backbones import resolve_backbone
from featood.extractors.extract import ExtractOptions, extract
from featood.extractors.recipe import choose_transform
from featood.metrics import accuracy
from featood.reporter import TerminalReporter
from featood.speed.environment import environment

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CIFAR = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
PLAIN = ((0.0,), (1.0,))
NETWORKS = (
    # network, weights, set, mean and std, published accuracy in %
    ("cifar-resnet20", "resnet20-12fca82f.th", "cifar10", IMAGENET, 91.73),
    ("cifar-resnet56", "resnet56-4bfd9763.th", "cifar10", IMAGENET, 93.39),
    ("densenet-100-12", "densenet100-12_cifar10.pth.tar", "cifar10", CIFAR, 94.54),
    ("mnist-convnet", "mnist-outlier-exposure/baseline_epoch_9.pt", "mnist", PLAIN, 99.06),
    ("mnist-convnet", "mnist-outlier-exposure/oe_tune_epoch_4.pt", "mnist", PLAIN, 99.08),
    ("mnist-convnet", "mnist-outlier-exposure/oe_scratch_epoch_9.pt", "mnist", PLAIN, 98.97),
)
ODD = ("fashion-mnist", "notmnist")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="folder of packed sets and weights")
    parser.add_argument("--cache", default="feature_cache")
    parser.add_argument("--only", default="", help="part of a network's name")
    parser.add_argument("--json", help="write the figures as JSON")
    given = parser.parse_args()
    cache, data = open_cache(given.cache), Path(given.data)
    accuracies: list[dict[str, Any]] = []
    detection: list[dict[str, Any]] = []
    with TerminalReporter() as reporter:
        for name, file, dataset, (mean, std), published in NETWORKS:
            if given.only not in name:
                continue
            backbone = resolve_backbone(name, str(data / "weights" / file))
            inside = open_dataset(dataset, "test", data)
            transform, _ = choose_transform(backbone, inside, mean, std)

            def run(images: Any, backbone: Any = backbone, transform: Any = transform) -> Any:
                what = f"{backbone.slug}/{images.name}"
                return extract(
                    backbone,
                    images,
                    transform,
                    cache,
                    ExtractOptions(),
                    progress=reporter.task(what),
                ).features

            test = run(inside)
            share = accuracy(np.asarray(test.logits[:]), np.asarray(test.labels[:]))
            accuracies.append({"network": backbone.slug, "accuracy": 100 * share, "published": published})
            if dataset != "mnist":
                continue
            for odd in ODD:
                found = evaluate(create_head("msp"), test, {odd: run(open_dataset(odd, "test", data))})[odd]
                detection.append(
                    {
                        "network": backbone.slug,
                        "ood": odd,
                        "fpr95_ood": round(100 * found["fpr95_ood"], 2),
                        "auroc": round(100 * found["auroc"], 2),
                        "fpr95": round(100 * found["fpr95"], 2),
                    }
                )
    show("Accuracy in %", accuracies)
    if detection:
        show("Maximum softmax probability, in %", detection)
    save(given.json, environment("torchvision", "timm"), accuracies=accuracies, detection=detection)


if __name__ == "__main__":
    main()
