"""Density heads in each space of the features, compared with one Gaussian, a tied covariance and class covariances.

On CIFAR-10 features of two published networks, versus CIFAR-100, TinyImageNet and Textures (mean AUROC in %)::

    python benchmarks/spaces.py --data DIR --cache CACHE spaces.jsonl

DIR contains the packed sets and a folder ``weights``. Each fit adds a line of JSON to the file; fits already in the
file are skipped, so the command resumes where it stopped. ``--report`` prints the tables without further fits. Fits use
6,000 rows and one thread. Differences from the defaults are in `HEADS`; HEAT has a small network and few updates (see
`HEAT`), because an update of its published size takes two seconds of processor time.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import show

from featood import FeatureSet, create_head, open_cache
from featood.data import open_dataset
from featood.errors import FeatoodError
from featood.extractors.backbones import resolve_backbone
from featood.extractors.extract import ExtractOptions, extract
from featood.extractors.recipe import choose_transform
from featood.metrics import accuracy, auroc
from featood.reporter import TerminalReporter

NETWORKS: Mapping[str, tuple[str, tuple[float, ...], tuple[float, ...]]] = {
    "densenet-100-12": (
        "densenet100-12_cifar10.pth.tar", (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010),
    ),
    "cifar-resnet20": ("resnet20-12fca82f.th", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}  # fmt: skip
"""Weights, mean and standard deviation of each network."""
ROWS, TEST_ROWS = 6000, 3000
"""Training rows, and rows of each scored set; sets already in the cache are used unchanged."""
ODD = ("cifar100", "tiny-imagenet-resize", "textures")
SPACES: Mapping[str, Mapping[str, Any]] = {
    "none": {"space": "none"},
    "standardize": {"space": "standardize"},
    "l2": {"space": "l2"},
    "l2-standardize": {"space": "l2-standardize"},
    "l2-whiten": {"space": "l2-whiten"},
    "pca": {"space": "pca"},
    "pca 32": {"space": "pca", "components": 32},
}
HEAT: Mapping[str, Any] = {
    "preset": "cifar10", "epochs": 10, "batch_size": 256, "width": 256, "updates": 300, "lr": 1e-4,
}  # fmt: skip
"""A quarter of the published width, a third of the updates, and ten times the learning rate."""
PRIOR: Mapping[str, Any] = {"width": 1, "depth": 0, "updates": 1, "sgld_steps": 0}
"""A minimal network, whose energies are not part of the score."""
HEADS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "one Gaussian": ("gmm", {"covariance": "tied"}),
    "tied classes": ("gmm", {"covariance": "tied"}),
    "class covariances": ("gmm", {}),
    "radial-flow": ("radial-flow", {"separate": True, "by_class": False}),
    "radial-flow by class": ("radial-flow", {"separate": True}),
    "nce": ("nce", {"base": "none"}),
    "ssm": ("ssm", {"base": "none"}),
    "natpn": ("natpn", {}),
    "natpn without fine-tuning": ("natpn", {"warmup_epochs": 0, "finetune": False}),
    "prior-network forward": ("prior-network", {"direction": "forward"}),
    "prior-network": ("prior-network", {}),
    "realnvp": ("realnvp", {"width": 128, "by_class": False}),
    "HEAT prior, ridge 1e-6": ("heat-gmm", {**PRIOR, "ridge": 1e-6}),
    "HEAT prior, ridge 1e-2": ("heat-gmm", {**PRIOR, "ridge": 1e-2}),
    "heat-gmm, ridge 1e-6": ("heat-gmm", {**HEAT, "ridge": 1e-6}),
    "heat-gmm, ridge 1e-2": ("heat-gmm", {**HEAT, "ridge": 1e-2}),
    "heat-gmm-std, ridge 1e-6": ("heat-gmm-std", {**HEAT, "ridge": 1e-6}),
    "heat-gmm-std, ridge 1e-2": ("heat-gmm-std", {**HEAT, "ridge": 1e-2}),
}
"""Head and options of each row, the fastest first."""

Job = tuple[str, str, str, int]
"""Network, row, space and seed."""


def features(
    network: str, data: Path, cache_root: Path
) -> tuple[FeatureSet, FeatureSet, dict[str, FeatureSet]]:
    """Return training rows, test rows and OOD sets; sets missing in the cache are extracted."""
    file, mean, std = NETWORKS[network]
    backbone, cache = resolve_backbone(network, str(data / "weights" / file)), open_cache(cache_root)
    transform, _ = choose_transform(backbone, open_dataset("cifar10", "test", data), mean, std)

    def run(name: str, split: str, rows: int) -> FeatureSet:
        try:
            return cache[f"{backbone.slug}/{name}/{split}"].to_torch()
        except FeatoodError:
            images = open_dataset(name, split, data)
        images = images.subset(np.arange(min(rows, len(images))))
        with TerminalReporter() as reporter:
            found = extract(
                backbone,
                images,
                transform,
                cache,
                ExtractOptions(),
                progress=reporter.task(f"{network}/{images.name}"),
            )
        return found.features.to_torch()

    train, test = run("cifar10", "train", ROWS), run("cifar10", "test", TEST_ROWS)
    return train, test, {name: run(name, "test", TEST_ROWS) for name in ODD}


def one_class(data: FeatureSet) -> FeatureSet:
    """Assign all rows to one class."""
    return FeatureSet({data.main: data.features[data.main]}, labels=torch.zeros(len(data), dtype=torch.long))


def jobs(seeds: int, rows: Sequence[str], networks: Sequence[str], spaces: Sequence[str]) -> Iterator[Job]:
    """List the fits, seed by seed, the fast ones first."""
    for seed in range(seeds):
        for row in rows:
            if seed and HEADS[row][0] == "gmm":  # not random
                continue
            for network in networks:
                yield from ((network, row, space, seed) for space in spaces)


def fit(job: Job, train: FeatureSet, test: FeatureSet, odd: Mapping[str, FeatureSet]) -> dict[str, Any]:
    """Fit one head, and score it; rows of HEAT's prior are scored without the network."""
    _, row, space, seed = job
    name, options = HEADS[row]
    options = {**options, **SPACES[space]} | ({} if name == "gmm" else {"seed": seed})
    if row == "one Gaussian":
        train = one_class(train)
    prior_only = row.startswith("HEAT prior")
    start = time.process_time()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            head: Any = create_head(name, **options).fit(train)
            scores = {key: score(head, rows, prior_only) for key, rows in {"": test, **odd}.items()}
        except FeatoodError as error:
            return {"job": job, "error": str(error)}
    found = {key: 100 * auroc(scores[""], scores[key]) for key in odd}
    line = {"job": job, "auroc": float(np.mean(list(found.values()))), **found}
    logits = None if prior_only else head.classify(test)
    if logits is not None and row != "one Gaussian":
        line["accuracy"] = 100 * accuracy(np.asarray(logits), np.asarray(test.labels))
    return {
        **line,
        "training": head.record.training,
        "notes": sorted({str(note.message) for note in caught if note.category is UserWarning}),
        "cpu_s": round(time.process_time() - start, 1),
    }


def score(head: Any, rows: FeatureSet, prior_only: bool) -> np.ndarray:
    """Score rows, optionally with the prior energy only."""
    if not prior_only:
        return np.asarray(head.score(rows))
    _, prior = head.prepared
    blocks = (head.transform_block(block, head.state) for block in rows.blocks())
    return np.concatenate([prior.energy(head.vectors(block).float()).numpy() for block in blocks])


def read(path: Path) -> dict[Job, dict[str, Any]]:
    """Read the lines of a file, by fit."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return {tuple(line["job"]): line for line in map(json.loads, lines)}  # type: ignore[misc]


def report(done: Mapping[Job, Mapping[str, Any]]) -> None:
    """Print, for each network, mean AUROC and accuracy of each head in each space, with half the range over seeds."""
    for network in NETWORKS:
        lines = []
        for row in HEADS:
            line = {"head": row}
            for space in SPACES:
                found = [
                    result
                    for (of, name, where, _), result in done.items()
                    if (of, name, where) == (network, row, space) and "auroc" in result
                ]
                line[space] = figure([result["auroc"] for result in found])
                right = [result["accuracy"] for result in found if "accuracy" in result]
                line[space] += f" ({np.mean(right):.1f})" if right else ""
            lines.append(line)
        show(f"{network}: mean AUROC in % +- half range of the seeds (accuracy)", lines)
    errors = {result["error"] for result in done.values() if "error" in result}
    print(f"{len(done)} fits" + "".join(f"\n{error}" for error in sorted(errors)))


def figure(values: Sequence[float]) -> str:
    """Format a mean, with half the range of several values."""
    if not values:
        return "-"
    return f"{np.mean(values):.1f}" + (f" +-{np.ptp(values) / 2:.1f}" if len(values) > 1 else "")


def main() -> None:
    """Run the fits that are not in the file, and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, help="file of JSON lines to continue")
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of packed sets and weights")
    parser.add_argument("--cache", type=Path, default=Path("feature_cache"))
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument("--rows", nargs="+", default=list(HEADS), choices=HEADS, metavar="ROW")
    parser.add_argument("--spaces", nargs="+", default=list(SPACES), choices=SPACES)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--report", action="store_true", help="print the tables without further fits")
    given = parser.parse_args()
    torch.set_num_threads(1)
    done, known = read(given.file), {}
    for job in () if given.report else jobs(given.seeds, given.rows, given.networks, given.spaces):
        if job in done:
            continue
        if job[0] not in known:
            known[job[0]] = features(job[0], given.data, given.cache)
        done[job] = fit(job, *known[job[0]])
        with given.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(done[job]) + "\n")
    report(done)


if __name__ == "__main__":
    main()
