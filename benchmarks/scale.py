"""Fit and score rows that exist only as they are read, on two nodes of a Ray cluster on this machine.

    python benchmarks/scale.py --rows 1000000 10000000

Each block of rows is drawn where it is needed, from a generator with the number of the block, so nothing is stored and
the time is that of the computation and of Ray. The table has the rows per second, the memory of the job (not of the
nodes), and the size of the statistics that a task returns.
"""

from __future__ import annotations

__all__: list[str] = []

import argparse
import resource
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from common import save, show

from featood.cache.feature_set import ROWS, FeatureSet
from featood.engines import open_engine
from featood.heads import FitContext, create_head
from featood.speed.environment import environment


@dataclass(frozen=True)
class DrawnColumn:
    """A column of clustered rows ``[N, D]`` or of their labels ``[N]``, drawn when its rows are read.

    Only whole blocks can be read, from the first row of a block on.
    """

    shape: tuple[int, ...]
    classes: int

    @property
    def dtype(self) -> np.dtype[Any]:
        """Float32, or int64 for labels."""
        return np.dtype("float32" if len(self.shape) == 2 else "int64")

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> np.ndarray:
        start, stop, step = rows.indices(self.shape[0])
        if step != 1 or start % ROWS or stop - start > ROWS:
            raise IndexError(f"rows {start}:{stop}:{step} are not a block")
        labels = np.arange(start, stop) % self.classes
        if len(self.shape) == 1:
            return labels
        means = np.random.default_rng(0).standard_normal((self.classes, self.shape[1]), dtype=np.float32)
        own = np.random.default_rng([1, start // ROWS])
        return means[labels] + own.standard_normal((stop - start, self.shape[1]), dtype=np.float32)


def drawn(rows: int, size: int, classes: int) -> FeatureSet:
    """Return a set of such rows."""
    features = {"avg": DrawnColumn((rows, size), classes)}
    return FeatureSet(features, labels=DrawnColumn((rows,), classes), name=f"{rows} drawn rows")


def main() -> None:
    """Run all sizes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[10**6, 10**7])
    parser.add_argument("--size", type=int, default=128, help="features of a row")
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--head", default="mahalanobis")
    parser.add_argument("--engine", default="ray", choices=("ray", "local"))
    parser.add_argument("--json")
    given = parser.parse_args()
    torch.set_num_threads(1)
    cluster = None
    if given.engine == "ray":
        from ray.cluster_utils import Cluster

        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
    found: list[dict[str, Any]] = []
    options = {} if cluster is None else {"address": cluster.address}
    with open_engine(given.engine, **options) as engine:
        for count in given.rows:
            data = drawn(count, given.size, given.classes)
            start = time.perf_counter()
            head = create_head(given.head).fit(data, context=FitContext(engine=engine))
            middle = time.perf_counter()
            scores = head.score(data, engine=engine)
            end = time.perf_counter()
            found.append(
                {
                    "rows": count,
                    "blocks": -(-count // ROWS),
                    "fit s": middle - start,
                    "fit rows/s": count / (middle - start),
                    "score s": end - middle,
                    "score rows/s": count / (end - middle),
                    "job MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                    "mean score": float(scores.mean()),
                }
            )
            print(found[-1], flush=True)
    if cluster is not None:
        cluster.shutdown()
    show(f"{given.head}, {given.size} features, {given.classes} classes, engine {given.engine}", found)
    save(given.json, environment(), scale=found)


if __name__ == "__main__":
    main()
