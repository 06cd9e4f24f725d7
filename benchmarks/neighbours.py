"""Time of exact nearest neighbours, compared in one run with faiss, pytorch-ood and the bare products of matrices.

    python benchmarks/neighbours.py --rows 50000 --queries 2000 --sizes 512,2048

All searches use the same rows of unit length, in turns, and the fastest turn of each is reported. ``noise`` is Gaussian
noise, whose distances hardly differ: the worst case of a screen by bounds. ``clusters`` are classes after a ReLU.
pytorch-ood searches with scikit-learn by brute force; it is timed on fewer queries, and its time scaled.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import faiss
import numpy as np
import torch
from common import save, show

from featood.numerics.approximate_neighbours import build_approximate_index, recall, search_approximately
from featood.numerics.neighbours import build_index, search
from featood.numerics.screens import build_screen, has_bfloat16
from featood.numerics.spaces import unit
from featood.speed.environment import environment
from featood.speed.pytorch_ood import detectors as pytorch_ood
from featood.speed.synthetic import clustered
from featood.speed.timing import seconds

BATCH = 256
PEERS = ("no screen", "faiss", "bfloat16", "float32", "pytorch-ood")
LEFT_OUT = ("ours", "index", "difference")
PEER_SHARE = 10
"""pytorch-ood is timed on the first of this many parts of the queries."""


def rows_of(kind: str, count: int, size: int, seed: int) -> torch.Tensor:
    """Make rows of unit length ``[count, size]``, shifted by the mean of the first ones of the bank as `knn` does."""
    if kind == "clusters":
        rows = torch.from_numpy(clustered(count, size, 100, seed).features["avg"])
    else:
        rows = torch.randn(count, size, generator=torch.Generator().manual_seed(seed))
    return unit(rows)


def searches(bank: torch.Tensor, queries: torch.Tensor, k: int) -> dict[str, tuple[Callable[[], Any], int]]:
    """Return functions that search, or only multiply, by name, each with the factor to scale its time by."""
    ours, plain = build_index(bank, screen=True), build_index(bank, screen=False)
    narrow = bank.bfloat16()
    found: dict[str, tuple[Callable[[], Any], int]] = {
        "ours": (lambda: search(ours, queries, k).values, 1),
        "no screen": (lambda: search(plain, queries, k).values, 1),
        "faiss": (lambda: faiss.knn(queries.numpy(), bank.numpy(), k)[0], 1),
        "bfloat16": (lambda: [part @ narrow.T for part in queries.bfloat16().split(BATCH)], 1),
        "float32": (lambda: [part @ bank.T for part in queries.split(BATCH)], 1),
    }
    if (detectors := pytorch_ood()) is not None:
        theirs = detectors.KNN(None, k=k).fit_features(bank, torch.zeros(len(bank)).long())
        few = queries[: max(1, len(queries) // PEER_SHARE)]
        found["pytorch-ood"] = (lambda: theirs.predict_features(few), len(queries) // len(few))
    return found


def compare(kind: str, size: int, k: int, given: argparse.Namespace) -> dict[str, Any]:
    """Time all searches on one bank; `difference` is the largest of ours from faiss."""
    bank, queries = rows_of(kind, given.rows, size, 0), rows_of(kind, given.queries, size, 1)
    center = bank.mean(0)
    bank, queries = bank - center, queries - center
    build, _ = seconds(lambda: build_screen(bank), 2)
    runs = searches(bank, queries, k)
    times: dict[str, float] = {}
    results: dict[str, Any] = {}
    for _ in range(given.repeat):
        for name, (run, share) in runs.items():
            took, results[name] = seconds(run, 1)
            times[name] = min(times.get(name, np.inf), took * share)
    distances = np.sqrt(np.maximum(results["faiss"], 0))
    return {
        "kind": kind, "size": size, "k": k, "threads": torch.get_num_threads(), **times,
        "index": build, "difference": float(np.abs(results["ours"].numpy() - distances).max()),
    }  # fmt: skip


def approximate(kind: str, size: int, k: int, given: argparse.Namespace) -> list[dict[str, Any]]:
    """Time approximate indices, with their recall."""
    bank, queries = rows_of(kind, given.rows, size, 0), rows_of(kind, given.queries, size, 1)
    exact = build_index(bank)
    rows = []
    for name in ("ivf", "hnsw"):
        build, index = seconds(lambda name=name: build_approximate_index(name, bank, given.breadth), 1)
        took, _ = seconds(lambda index=index: search_approximately(index, exact, queries, k), given.repeat)
        rows.append({"kind": kind, "size": size, "k": k, "index": name, "build s": build, "search s": took,
                     "exact s": seconds(lambda: search(exact, queries, k), given.repeat)[0],
                     "recall": recall(index, bank, k)})  # fmt: skip
    return rows


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=50_000, help="rows of the bank")
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--sizes", default="512,2048", help="numbers of features, comma-separated")
    parser.add_argument("--k", default="1,50", help="numbers of neighbours, comma-separated")
    parser.add_argument("--threads", default="1", help="numbers of threads, comma-separated")
    parser.add_argument("--kinds", default="clusters,noise", help="kinds of rows, comma-separated")
    parser.add_argument("--repeat", type=int, default=3, help="number of turns; the fastest is reported")
    parser.add_argument(
        "--breadth", type=int, default=0, help="breadth of approximate indices (0: leave them out)"
    )
    parser.add_argument("--json", help="write the tables as JSON")
    given = parser.parse_args()
    sizes, ks, threads = ([int(n) for n in text.split(",")] for text in (given.sizes, given.k, given.threads))
    rows, others = [], []
    for count in threads:
        torch.set_num_threads(count)
        faiss.omp_set_num_threads(count)
        for kind in given.kinds.split(","):
            for size in sizes:
                rows += [compare(kind, size, k, given) for k in ks]
                if given.breadth:
                    others += [row for k in ks for row in approximate(kind, size, k, given)]
    title = f"{given.rows} rows, {given.queries} queries"
    show(f"{title}: seconds, and the largest difference from faiss", rows)
    ratios = [
        {
            name: row[name] / row["ours"] if name in PEERS else row[name]
            for name in row
            if name not in LEFT_OUT
        }
        for row in rows
    ]
    show(f"{title}: ratios to ours", ratios)
    if others:
        show(f"Approximate indices with breadth {given.breadth}", others)
    about = {**environment("faiss-cpu", "pytorch-ood", "scikit-learn"), "bfloat16 units": has_bfloat16()}
    save(given.json, about, neighbours=rows, ratios=ratios, approximate=others)


if __name__ == "__main__":
    main()
