"""Heads with Gaussians compared with a more exact reference, on features of real networks with narrow directions.

    python benchmarks/gaussians.py --data DIR --cache CACHE

DIR contains the packed sets and a folder ``weights``; sets missing in the cache are extracted first. The first table
has the AUROC of each head and of a reference, which uses singular values of the centred rows instead of a factorised
covariance, needs no ridge, and loses half as many digits. The second table adds constants to all logits and biases,
which does not change the softmax. All values are in %.
"""

from __future__ import annotations

import argparse
import dataclasses
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import save, show
from published import CIFAR, IMAGENET
from scipy.special import logsumexp

from featood import FeatureSet, create_head, open_cache
from featood.data import open_dataset
from featood.extractors.backbones import resolve_backbone
from featood.extractors.extract import ExtractOptions, extract
from featood.extractors.recipe import choose_transform
from featood.metrics import auroc
from featood.speed.environment import environment

NETWORKS = (
    # network, weights, mean and std, stages
    ("cifar-resnet20", "resnet20-12fca82f.th", IMAGENET, ("layer1", "layer2", "layer3")),
    ("densenet-100-12", "densenet100-12_cifar10.pth.tar", CIFAR, ("trans1", "trans2", "relu")),
)
KNOWN, ODD = "cifar10", ("cifar100", "textures", "tiny-imagenet-resize")
MULTIPLYING, LEVELS = ("vim", "neco", "nnguide", "openmax"), (10, 0, -5, -30, -1000)
Array = np.ndarray


def distances(rows: Array, centred: Array, means: Array) -> Array:
    """Return squared Mahalanobis distances ``[B, C]`` under the covariance of centred training rows ``[N, D]``."""
    _, scales, axes = np.linalg.svd(centred, full_matrices=False)
    whitened = axes.T * np.sqrt(len(centred)) / scales
    return np.stack([np.square((rows - mean) @ whitened).sum(1) for mean in means], 1)


def mahalanobis(z: Array, y: Array, x: Array) -> Array:
    """Return the distance to the nearest class mean."""
    means = np.stack([z[y == c].mean(0) for c in np.unique(y)])
    return distances(x, z - means[y], means).min(1)


def relative(z: Array, y: Array, x: Array) -> Array:
    """Return this distance minus the distance under one Gaussian of all rows."""
    return mahalanobis(z, y, x) - distances(x, z - z.mean(0), z.mean(0, keepdims=True))[:, 0]


def mixture(z: Array, y: Array, x: Array) -> Array:
    """Return the negative log-density of the mixture of class Gaussians, up to a constant."""
    found = []
    for c in np.unique(y):
        own = z[y == c]
        centred = (own - own.mean(0)) / np.sqrt(len(own) - 1) * np.sqrt(len(own))
        log_det = 2 * np.log(np.linalg.svd(centred, compute_uv=False) / np.sqrt(len(own))).sum()
        squared = distances(x, centred, own.mean(0, keepdims=True))[:, 0]
        found.append(np.log(len(own) / len(z)) - (squared + log_det) / 2)
    return -logsumexp(np.stack(found, 1), axis=1)


def unit(reference: Callable[[Array, Array, Array], Array]) -> Callable[[Array, Array, Array], Array]:
    """Apply a reference to rows normalised to length 1."""

    def scaled(z: Array, y: Array, x: Array) -> Array:
        return reference(z / np.linalg.norm(z, axis=1)[:, None], y, x / np.linalg.norm(x, axis=1)[:, None])

    return scaled


HEADS: Mapping[str, Callable[[Array, Array, Array], Array] | None] = {
    "mahalanobis": mahalanobis,
    "mahalanobis-pp": unit(mahalanobis),
    "ssd": unit(mahalanobis),
    "relative-mahalanobis": relative,
    "rmd-pp": unit(relative),
    "gmm": mixture,
    "gem": None,
    "multi-mahalanobis": None,
    "vim": None,
    "residual": None,
    "neco": None,
}


def measure(name: str, options: Mapping[str, Any], sets: Mapping[str, FeatureSet]) -> dict[str, Any]:
    """Score the sets with a head and with its reference."""
    train, test = sets["train"], sets["test"]
    odd = {name: features for name, features in sets.items() if name not in ("train", "test")}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        head = create_head(name, **options).fit(train)
    known = head.score(test)
    label = " ".join([name, *(f"{key}={value}" for key, value in options.items())])
    row = {"head": label, **{key: 100 * auroc(known, head.score(features)) for key, features in odd.items()}}
    reference = None if options else HEADS[name]
    if reference is not None:
        z, y = np.asarray(train.feature()[:], float), np.asarray(train.labels[:])
        inside, *outside = (
            reference(z, y, np.asarray(features.feature()[:], float)) for features in (test, *odd.values())
        )
        row |= {f"exact {key}": 100 * auroc(inside, score) for key, score in zip(odd, outside, strict=True)}
    else:
        row |= {f"exact {key}": None for key in odd}
    for one in caught:
        print(f"{label}: {one.message}")
    return {**row, "ridge": _ridge(head)}


def _ridge(head: Any) -> float | None:
    found = [float(value) for key, value in head.state.items() if key.split("/")[-1] == "ridge"]
    return max(found, default=None)


def levels(name: str, constants: Sequence[float], sets: Mapping[str, FeatureSet]) -> list[dict[str, Any]]:
    """Score the sets with constants added to all logits and biases."""
    rows = []
    for key in sets:
        if key in ("train", "test"):
            continue
        row: dict[str, Any] = {"head": name, "ood": key}
        for constant in constants:
            train, test, odd = (_raised(sets[part], constant) for part in ("train", "test", key))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                head = create_head(name).fit(train)
            row[f"{constant:+g}"] = 100 * auroc(head.score(test), head.score(odd))
        rows.append(row)
    return rows


def _raised(data: FeatureSet, constant: float) -> FeatureSet:
    weight, bias = data.classifier
    return dataclasses.replace(
        data.select(data.main, "logits", "labels"),
        logits=np.asarray(data.logits[:], float) + constant,
        classifier=(weight, np.asarray(bias, float) + constant),
    )


def extracted(given: argparse.Namespace, network: tuple[Any, ...]) -> dict[str, FeatureSet]:
    """Return the sets of a network by name, from the cache if it has them."""
    name, file, (mean, std), taps = network
    backbone = resolve_backbone(name, str(Path(given.data) / "weights" / file))
    cache, sets = open_cache(given.cache), {}
    options = ExtractOptions(taps=taps, workers=0)
    for dataset, split, rows in [
        (KNOWN, "train", given.train),
        (KNOWN, "test", given.test),
        *((odd, "test", given.test) for odd in given.ood.split(",")),
    ]:
        images = open_dataset(dataset, split, given.data)
        images = images.subset(np.arange(min(rows, len(images))))
        transform, _ = choose_transform(backbone, images, mean, std)
        key = dataset if dataset != KNOWN else split
        sets[key] = extract(backbone, images, transform, cache, options).features
    return sets


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="folder of packed sets and weights")
    parser.add_argument("--cache", default="feature_cache")
    parser.add_argument("--only", default="", help="part of a network's name")
    parser.add_argument("--ood", default=",".join(ODD), help="out-of-distribution sets, comma-separated")
    parser.add_argument("--train", type=int, default=6000, help="training rows")
    parser.add_argument("--test", type=int, default=3000, help="rows of each other set")
    parser.add_argument("--variants", action="store_true", help="also with ridges and shrinkage")
    parser.add_argument("--json", help="write the figures as JSON")
    given = parser.parse_args()
    tables = {}
    for network in NETWORKS:
        if given.only not in network[0]:
            continue
        sets = extracted(given, network)
        variants: list[tuple[str, dict[str, Any]]] = [(name, {}) for name in HEADS]
        if given.variants:
            for name in ("mahalanobis", "relative-mahalanobis", "rmd-pp", "gmm"):
                variants += [(name, {"ridge": 1e-6}), (name, {"ridge": 1e-3})]
                variants += [(name, {"shrinkage": kind}) for kind in ("oas", "ledoit-wolf")]
        tables[network[0]] = [measure(name, options, sets) for name, options in variants]
        show(f"{network[0]}: AUROC in %", tables[network[0]])
        moved = [row for name in MULTIPLYING for row in levels(name, LEVELS, sets)]
        level = np.asarray(sets["train"].logits[:]).max(1).mean()
        show(
            f"{network[0]}: AUROC in % with constants added to all logits (mean of the largest: {level:.1f})",
            moved,
        )
        tables[f"{network[0]} levels"] = moved
    save(given.json, environment("scipy"), **tables)


if __name__ == "__main__":
    main()
