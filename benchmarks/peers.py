"""Agreement of featood's scores with pytorch-ood, on the features of a cache and on hard inputs.

    python benchmarks/peers.py --cache feature_cache --ood textures
    python benchmarks/peers.py --hard-inputs

Every detector of pytorch-ood that can be computed from cached features or logits is compared with the corresponding
head. If the ranks of scores differ, the table states the reason, and ``without`` is the rank correlation after removing
this cause from the detector (see ``causes.py``). The exit code is 1 if a difference is unexplained.
"""

from __future__ import annotations

import argparse
import dataclasses
import warnings
from types import ModuleType
from typing import Any

import numpy as np
from causes import CAUSES
from common import save, show
from hard_inputs import collapse_table, hard_table
from scipy.stats import rankdata, spearmanr

from featood import FeatureSet, open_cache
from featood.metrics import auroc
from featood.pipeline.resolve import find_set
from featood.pipeline.selection import select
from featood.speed.environment import environment
from featood.speed.pytorch_ood import ABSENT, PEERS, Layer, Peer, fit_peer, score_peer
from featood.speed.pytorch_ood import detectors as pytorch_ood

SAME = 0.9999
"""Rank correlation above which two scores are considered the same."""


def in_memory(data: FeatureSet, rows: int = 0, seed: int = 0) -> FeatureSet:
    """Read two feature columns (the classifier's input first), logits and labels, optionally of a sample of rows."""
    names = [data.main, *(name for name in data.features if name != data.main)][:2]
    data = data.select(*names, "logits", "labels")
    draw: Any = slice(None)
    if 0 < rows < len(data):
        draw = np.sort(np.random.default_rng(seed).permutation(len(data))[:rows])
    return dataclasses.replace(
        data,
        features={name: np.asarray(data.features[name][:], np.float32)[draw] for name in names},
        logits=None if data.logits is None else np.asarray(data.logits[:])[draw],
        labels=None if data.labels is None else np.asarray(data.labels[:])[draw],
    )


def with_outliers(train: FeatureSet, odd: FeatureSet) -> FeatureSet:
    """Add the rows of a set to the training rows as outliers."""
    return FeatureSet(
        logits=np.concatenate([train.logits, odd.logits]),
        labels=np.concatenate([train.labels, np.full(len(odd), -1)]),
    )


def compare(
    detectors: ModuleType, peer: Peer, train: FeatureSet, test: FeatureSet, odd: FeatureSet
) -> dict[str, Any]:
    """Fit and score one head and its peer."""
    layer = Layer(train)
    row: dict[str, Any] = {"head": peer.head, "peer": peer.name, "AUROC": None, "peer AUROC": None, "Spearman": None,
                           "rank gap": None, "same": False, "without": None, "why": ""}  # fmt: skip
    try:
        head = peer.create(train).fit(with_outliers(train, odd) if peer.outliers else train)
        mine = [head.score(rows) for rows in (test, odd)]
        row["AUROC"] = auroc(*mine)
        detector = peer.make(detectors, layer, head)
        fit_peer(detector, peer.view, train)
        theirs = [score_peer(detector, peer.view, rows) for rows in (test, odd)]
        row["peer AUROC"] = auroc(*theirs)
    except Exception as error:  # failures are reported in the table
        row["why"] = f"{type(error).__name__}: {error}".split("\n")[0]
        return row
    ours, other = np.concatenate(mine), np.concatenate(theirs)
    row["Spearman"] = float(spearmanr(ours, other).statistic)
    row["rank gap"] = float(np.abs(rankdata(ours) - rankdata(other)).max() / len(ours))
    row["same"] = row["Spearman"] > SAME
    if not row["same"]:
        row["why"] = peer.why or "UNEXPLAINED"
        if peer.head in CAUSES:
            without = CAUSES[peer.head](detector, head, train)
            row["without"] = float(spearmanr(ours, np.concatenate([without(test), without(odd)])).statistic)
    return row


def agreement(given: argparse.Namespace, detectors: ModuleType) -> tuple[str, list[dict[str, Any]]]:
    """Make the table of agreement on cached features."""
    selection = select(open_cache(given.cache), given.backbone, given.dataset)
    known = selection.open(selection.test_split())
    train = in_memory(selection.open(selection.train_split()), given.rows)
    test = in_memory(known, given.rows)
    odd = in_memory(find_set(selection.cache, known, given.ood), given.rows)
    rows = [
        compare(detectors, peer, train, test, odd)
        for peer in PEERS
        if not given.heads or peer.head in given.heads.split(",")
    ]
    return (
        f"{known.name} against {odd.name}: {len(train)} rows to fit, {len(test)} + {len(odd)} to score",
        rows,
    )


def main() -> int:
    """Print one of the tables."""
    parser = argparse.ArgumentParser(description="Agreement with pytorch-ood.")
    parser.add_argument("--cache", default="feature_cache", help="root of a feature cache")
    parser.add_argument("--backbone", default="", help="default: the newest")
    parser.add_argument("--dataset", default="", help="default: the newest")
    parser.add_argument("--ood", default="", help="out-of-distribution set")
    parser.add_argument(
        "--rows", type=int, default=20_000, help="maximum rows of a set, sampled at random (0: all)"
    )
    parser.add_argument("--heads", default="", help="comma-separated (default: all)")
    parser.add_argument(
        "--hard-inputs", action="store_true", help="print the table of hard inputs, without a cache"
    )
    parser.add_argument("--json", help="write the table as JSON")
    given = parser.parse_args()
    if not (given.ood or given.hard_inputs):
        parser.error("name an out-of-distribution set with --ood, or use --hard-inputs")
    detectors = pytorch_ood()
    if detectors is None:
        parser.error("pytorch-ood is not installed: pip install 'featood[peers]'")
    warnings.simplefilter("ignore")
    about = environment("pytorch-ood")
    if given.hard_inputs:
        hard, collapse = hard_table(detectors), collapse_table()
        show("Hard inputs", hard)
        show("Mixture densities: exp space in float32 (OpenOOD's arithmetic) and log space", collapse)
        save(given.json, about, hard=hard, collapse=collapse)
        return 0
    title, rows = agreement(given, detectors)
    show(title, rows)
    for name, why in ABSENT.items():
        print(f"{name} is left out: it {why}")
    save(given.json, about, agreement=rows)
    return 1 if any(row["why"] == "UNEXPLAINED" or row["Spearman"] is None for row in rows) else 0


if __name__ == "__main__":
    raise SystemExit(main())
