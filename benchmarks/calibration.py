"""False alarms of conformal thresholds over many calibration splits, beside the law that they should follow.

The in-distribution test rows are divided at random into calibration rows and others, again and again. For each head,
the share of the others above the threshold is a draw from a Beta-binomial distribution.

    python benchmarks/calibration.py --cache feature_cache --backbone NAME --heads knn energy
    python benchmarks/calibration.py --table segment --heads knn mahalanobis
"""

from __future__ import annotations

__all__ = ["main", "simulated", "splits"]

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from common import save, show
from scipy import stats

from featood.cache import FeatureCache
from featood.decisions import p_values, threshold
from featood.heads import create_head
from featood.pipeline.selection import select
from featood.pipeline.table_import import import_table
from featood.pipeline.table_writer import TableImport
from featood.speed.environment import environment


def splits(scores: np.ndarray, rows: int, rate: float, count: int, seed: int = 0) -> dict[str, Any]:
    """Return mean and spread of the false-alarm rate over splits, and the share within the law's 95 % band."""
    rng = np.random.default_rng(seed)
    others = len(scores) - rows
    above = int(np.floor(rate * (rows + 1) + 1e-9))
    law = stats.betabinom(others, above, rows + 1 - above)
    low, high = law.ppf([0.025, 0.975])
    alarms = []
    for _ in range(count):
        order = rng.permutation(len(scores))
        alarms.append(int((scores[order[rows:]] > threshold(scores[order[:rows]], rate)).sum()))
    found = np.array(alarms)
    return {
        "calibration rows": rows, "others": others, "mean %": 100 * found.mean() / others,
        "expected %": 100 * law.mean() / others, "sd %": 100 * found.std(ddof=1) / others,
        "expected sd %": 100 * law.std() / others,
        "within band %": 100 * float(((found >= low) & (found <= high)).mean()),
    }  # fmt: skip


def simulated(count: int, rows: int, seed: int = 0) -> dict[str, Any]:
    """Return the p-value of a test that smoothed p-values, one for each fresh calibration set, are uniform."""
    rng = np.random.default_rng(seed)
    found = [p_values(rng.normal(size=rows), rng.normal(size=1), rng)[0] for _ in range(count)]
    test = stats.kstest(found, "uniform")
    return {"sets": count, "calibration rows": rows, "KS statistic": test.statistic, "p": test.pvalue}


def main() -> None:
    """Fit the heads, and print a row for each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cache", default="feature_cache")
    parser.add_argument("--backbone", default="")
    parser.add_argument("--dataset", default="")
    parser.add_argument("--table", default="", help="a built-in table instead of cached features")
    parser.add_argument("--data-dir", default=os.environ.get("FEATOOD_DATA"))
    parser.add_argument("--heads", nargs="+", default=["knn", "mahalanobis"])
    parser.add_argument("--rate", type=float, default=0.05)
    parser.add_argument("--splits", type=int, default=200)
    parser.add_argument("--json", default="")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if given.table:
            cache = FeatureCache(Path(folder))
            import_table(cache, given.table, TableImport(parts=(50, 50)), data_dir=given.data_dir)
        else:
            cache = FeatureCache(given.cache)
        selection = select(cache, given.backbone, given.dataset)
        train, test = (
            selection.open(split) for split in (selection.train_split(""), selection.test_split(""))
        )
        rows = []
        for name in given.heads:
            head = create_head(name)
            if head.learns:
                head.fit(train)
            scores = np.asarray(head.score(test))
            where = {"set": f"{selection.dataset}", "head": name}
            rows.append(where | splits(scores, len(scores) // 2, given.rate, given.splits))
    show(f"false alarms at {100 * given.rate:g} %, {given.splits} splits of the test rows", rows)
    uniform = [simulated(1000, size) for size in (19, 100, 1000)]
    show("smoothed p-values of simulated scores, one for each calibration set", uniform)
    save(given.json, environment(), rows=rows, uniform=uniform)


if __name__ == "__main__":
    main()
