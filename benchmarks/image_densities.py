"""Densities of images by ``featood train``, beside the same principles on the features of a classifier.

Each model is trained with its defaults on the first training images with several seeds; its network is tested on
held-out images and on those of other datasets by the likelihood and, for classifiers, by MSP. A classifier is trained
likewise, and every head of the same name is fitted to its features. Each training adds a line of JSON to the file;
those already in the file are skipped.

    python benchmarks/image_densities.py densities.jsonl --dataset fashion-mnist --ood mnist notmnist omniglot/test

With ``--minutes``, each network is trained for about so long: some updates are timed, and the number of epochs, or of
images if there is no time for all, follows from that. Both are in the row.
"""

from __future__ import annotations

__all__ = ["HEADS", "main", "measure"]

import argparse
import itertools
import json
import shutil
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import show
from models import architecture

from featood.cache import FeatureCache, FeatureSet
from featood.data import ImageSet, open_dataset
from featood.extractors.backbones import resolve_backbone
from featood.extractors.extract import ExtractOptions
from featood.extractors.models import ImageBatch, Model, list_models
from featood.extractors.models.network import TrainableNet
from featood.heads import create_head, list_heads
from featood.metrics import auroc, fpr_at_tpr_id
from featood.pipeline.extraction import extract_sets
from featood.pipeline.training import train

CLASSIFIER = "cross-entropy"
PROBE = 1280
BATCH = 100
HEADS = {"glow": "glow-vector"}
"""Heads on features that have another name than the model of images."""


class Network:
    """A trained network, and its features of any set.

    Parameters
    ----------
    folder : Path
        With the network ``net``, and the features ``cache``.
    given : Namespace
        Arguments of the command.
    """

    def __init__(self, folder: Path, given: argparse.Namespace) -> None:
        self.given = given
        self.cache, self.backbone = FeatureCache(folder / "cache"), resolve_backbone(str(folder / "net"))

    def images(self, name: str, split: str = "test") -> ImageSet:
        """Return the images of a set, as ``NAME`` or ``NAME/SPLIT``."""
        dataset, _, named = name.partition("/")
        images = open_dataset(dataset, named or split)
        limit = self.given.limit if split == "train" else self.given.test_limit
        return images.subset(range(min(limit or len(images), len(images))))

    def features(self, name: str, split: str = "test") -> FeatureSet:
        """Return the features of a set, as ``NAME`` or ``NAME/SPLIT``."""
        assert self.backbone.transform is not None
        images, options = self.images(name, split), ExtractOptions(taps=self.backbone.taps)
        return extract_sets(self.cache, self.backbone, [images], self.backbone.transform, options)[0].features

    def bits_per_dim(self, model: Model) -> float | None:
        """Return the mean bits per dimension of the test images; None if the model has no normalised density.

        Pixels are dequantised by noise, as the column has the density in the middle of their levels, which is no bound.
        """
        if model.error_name != "validation_bits_per_dim":
            return None
        images, transform = self.images(self.given.dataset), self.backbone.transform
        assert transform is not None
        net, found = TrainableNet(self.backbone.module), []
        for start in range(0, len(images), BATCH):
            part = transform([images.read(row) for row in range(start, min(start + BATCH, len(images)))])
            with torch.no_grad():
                found.append(model.errors(net, ImageBatch(part, torch.zeros(len(part)).long())))
        return round(float(torch.cat(found).mean()), 3)

    def detection(self, head: str) -> dict[str, Any]:
        """Return AUROC and FPR95 in % of a head against each set, and the seconds of its fit."""
        scorer, began = create_head(head), time.monotonic()
        if scorer.learns:
            scorer.fit(self.features(self.given.dataset, "train"))
        seconds = time.monotonic() - began
        inside = scorer.score(self.features(self.given.dataset))
        found: dict[str, Any] = {"fit_seconds": round(seconds, 1)}
        for name in self.given.ood:
            outside = scorer.score(self.features(name))
            found[f"auroc {name}"] = round(100 * auroc(inside, outside), 2)
            found[f"fpr95 {name}"] = round(100 * fpr_at_tpr_id(inside, outside), 2)
        return found


def measure(name: str, seed: int, folder: Path, given: argparse.Namespace) -> list[dict[str, Any]]:
    """Train a network, and return a row for each of its scores."""
    cls = list_models()[name]
    shutil.rmtree(folder, ignore_errors=True)
    how: dict[str, Any] = {"epochs": given.epochs, "seed": seed, "limit": given.limit, **_values(given.train)}
    how |= {} if given.lr is None or name == CLASSIFIER else {"lr": given.lr}
    if name == CLASSIFIER:
        how |= {"optimizer": "adam", "lr": 1e-3, "weight_decay": 0.0}
    options = {key: value for key, value in _values(given.option).items() if key in cls.__dataclass_fields__}
    how |= {"dataset": given.dataset, "options": options, "image_size": given.image_size}
    if not cls.own_network:
        arch = architecture(given.arch)
        how |= {"arch": arch.name, "arch_options": arch.options}
    if given.minutes:
        how |= _duration(name, folder / "probe", given, how)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        summary = train(name, out=folder / "net", **how)
    network = Network(folder, given)
    test = network.features(given.dataset)
    row: dict[str, Any] = {"model": name, "on": "images", "seed": seed, "seconds": round(summary["seconds"])}
    row |= {"epochs": how["epochs"], "images": how["limit"], "steps": summary["steps"]}
    row["diverged"] = bool(summary["diverged"]) or any("diverged" in str(entry.message) for entry in caught)
    if test.logits is not None:
        row["accuracy"] = round(100 * float(np.mean(test.logits[:].argmax(1) == test.labels[:])), 2)
    if (bits := network.bits_per_dim(cls())) is not None:
        row["bits_per_dim"] = bits
    heads = ["likelihood"] if cls.density_column else []
    heads += ["msp", "energy"] if test.logits is not None and not cls.density_column else []
    heads += ["msp"] if test.logits is not None and cls.density_column else []
    return [{**row, "score": head, **network.detection(head)} for head in heads]


def _values(pairs: list[str]) -> dict[str, Any]:
    """Return the values of pairs KEY=VALUE, which are JSON, or else text."""
    found: dict[str, Any] = {}
    for key, _, text in (pair.partition("=") for pair in pairs):
        try:
            found[key] = json.loads(text)
        except json.JSONDecodeError:
            found[key] = text
    return found


def _duration(name: str, folder: Path, given: argparse.Namespace, how: dict[str, Any]) -> dict[str, int]:
    """Return the epochs and the images of a training of some minutes, by timing the second of two short ones."""
    images = open_dataset(given.dataset, "train")
    count = min(given.limit or len(images), len(images))
    seconds = []
    for number, limit in enumerate((PROBE // 4, PROBE)):
        probe = {**how, "epochs": 1, "limit": min(limit, count), "validation": 0.0, "keep": "last"}
        seconds.append(train(name, out=folder / str(number), **probe)["seconds"])
    shutil.rmtree(folder)
    rate = min(PROBE, count) / max(seconds[1], 0.1)
    possible = 60 * given.minutes * rate
    print(f"{name}: {rate:.0f} images/s", flush=True)
    return {"epochs": max(1, round(possible / count)), "limit": min(count, max(int(possible), 1))}


def main() -> None:
    """Measure all, and print the table of means over the seeds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    densities = [name for name, cls in list_models().items() if cls.density_column]
    parser.add_argument("file", type=Path)
    parser.add_argument("--models", nargs="*", default=[CLASSIFIER, *densities])
    parser.add_argument(
        "--heads", nargs="*", help="heads on the classifier's features (default: those of the models)"
    )
    parser.add_argument("--dataset", default="fashion-mnist")
    parser.add_argument("--ood", nargs="*", default=["mnist", "notmnist", "omniglot/test"])
    parser.add_argument("--arch", default="conv4-32", help="network, as conv4-32 or wrn-16-8:norm=none")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--limit", type=int, default=0, help="training images (0: all)")
    parser.add_argument("--test-limit", type=int, default=0, help="images of each test set (0: all)")
    parser.add_argument("--image-size", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=0.0, help="of each training, in place of --epochs")
    parser.add_argument(
        "--train", action="append", default=[], help="field of TrainOptions, for all models: KEY=VALUE"
    )
    parser.add_argument(
        "--lr", type=float, help="learning rate of the densities (default: that of the model)"
    )
    parser.add_argument(
        "--option", action="append", default=[], help="option of the models that have it: KEY=VALUE"
    )
    parser.add_argument("--folder", type=Path, default=Path("densities"), help="for networks and features")
    given = parser.parse_args()
    rows = []
    if given.file.exists():
        rows = [json.loads(line) for line in given.file.read_text().splitlines()]
    done = {(row["model"], row["on"], row["seed"]) for row in rows}

    def add(found: list[dict[str, Any]]) -> None:
        rows.extend(found)
        with given.file.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in found)

    for seed, name in itertools.product(range(given.seeds), given.models):
        folder = given.folder / f"{name}-{seed}"
        if (name, "images", seed) not in done:
            add(measure(name, seed, folder, given))
    known = list_heads()
    heads = given.heads
    if heads is None:
        heads = [head for name in given.models if (head := HEADS.get(name, name)) in known]
    for seed, head in itertools.product(range(given.seeds), heads):
        if (head, "features", seed) not in done:
            network = Network(given.folder / f"{CLASSIFIER}-{seed}", given)
            row = {"model": head, "on": "features", "seed": seed, "score": head}
            add([{**row, **network.detection(head)}])
    show(f"{given.dataset}, means over {given.seeds} seeds", _means(rows))


def _means(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row of means ± standard errors for each model and score."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["on"], row["model"], row["score"]), []).append(row)
    table = []
    for (on, model, score), group in sorted(groups.items()):
        found: dict[str, Any] = {"on": on, "model": model, "score": score, "n": len(group)}
        found["diverged"] = sum(bool(row.get("diverged")) for row in group)
        for key in dict.fromkeys(key for row in group for key in row if key not in (*found, "seed")):
            values = np.array([row[key] for row in group if key in row], float)
            error = f" ±{values.std(ddof=1) / len(values) ** 0.5:.2f}" if len(values) > 1 else ""
            found[key] = f"{values.mean():.2f}{error}"
        table.append(found)
    keys = dict.fromkeys(key for row in table for key in row)
    return [{key: row.get(key, "") for key in keys} for row in table]


if __name__ == "__main__":
    main()
