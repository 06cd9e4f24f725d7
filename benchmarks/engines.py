"""Kill a node of a Ray cluster during an extraction and a fit, and compare the results with those of one process.

Two nodes run on this machine. The processes of the second are killed (kill -9) when a quarter of the blocks is done, so
that its tasks have to be repeated on the first. The results must have the same bytes. The columns of the nodes count
the blocks whose results they delivered; the first block of a fit is computed by the job itself.
"""

from __future__ import annotations

__all__: list[str] = []

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from common import save, show

from featood.cache import FeatureCache, FeatureSet, import_arrays
from featood.data import open_dataset
from featood.engines import LOCAL, Engine, Work, open_engine
from featood.extractors.backbones import resolve_backbone
from featood.extractors.extract import ExtractOptions, extract
from featood.extractors.transform import Transform
from featood.heads import FitContext, create_head
from featood.speed.environment import environment
from featood.speed.synthetic import clustered


class Watched:
    """An engine that calls a function after some results, and counts the results of each node."""

    def __init__(self, engine: Engine, after: int, then: Callable[[], Any]) -> None:
        self.engine, self.after, self.then = engine, after, then
        self.nodes: Counter[str] = Counter()

    def map(self, work: Work, items: Sequence[Any]) -> Iterator[Any]:
        """Yield the results of the engine."""
        for count, (result, node) in enumerate(self.engine.map(Located(work), items)):
            self.nodes[node] += 1
            if count == self.after:
                self.then()
            yield result


class Located(NamedTuple):
    """A function whose results are pairs with the node that computed them."""

    work: Work

    def __call__(self, items: Iterable[Any]) -> Iterator[tuple[Any, str]]:
        """Yield the results."""
        import ray

        for result in self.work(items):
            yield result, ray.get_runtime_context().get_node_id()


def extracted(root: Path, blocks: int, engine: Any) -> FeatureSet:
    """Extract digits with a small residual network."""
    images, backbone = open_dataset("digits", "train"), resolve_backbone("cifar-resnet20", "random", 10)
    options = ExtractOptions(block_rows=-(-len(images) // blocks))
    transform = Transform(3, 32, 32, 0, (0.5,), (0.25,))
    return extract(backbone, images, transform, FeatureCache(root), options, engine=engine).features


def fitted(data: FeatureSet, engine: Any) -> dict[str, torch.Tensor]:
    """Fit a head, and return its tensors."""
    return dict(create_head("mahalanobis").fit(data, context=FitContext(engine=engine)).state)


def main() -> None:
    """Run both jobs with and without a loss."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, default=20)
    parser.add_argument("--size", type=int, default=512, help="features of the rows that are fitted")
    parser.add_argument("--json")
    options = parser.parse_args()
    from ray.cluster_utils import Cluster

    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        made = clustered(4096 * options.blocks - 7, options.size, 10, 0)
        import_arrays(FeatureCache(folder), "rows/rows/train", made.features, labels=made.labels)
        data = FeatureCache(folder)["rows/rows/train"]
        jobs: dict[str, Callable[[Any], Any]] = {
            "extract": lambda engine: (
                extracted(Path(tempfile.mkdtemp(dir=folder)), options.blocks, engine).content
            ),
            "fit": lambda engine: [value.numpy().tobytes() for value in fitted(data, engine).values()],
        }
        expected = {}
        for name, job in jobs.items():
            start = time.perf_counter()
            expected[name] = job(LOCAL)
            rows.append({"job": name, "engine": "local", "killed": "", "s": time.perf_counter() - start, "same": True,
                         "node 1": options.blocks, "node 2": 0})  # fmt: skip
        for name, job in jobs.items():
            for lose in (False, True):
                cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
                second = cluster.add_node(num_cpus=1)
                cluster.wait_for_nodes()
                kill = partial(cluster.remove_node, second, allow_graceful=False) if lose else bool
                with open_engine("ray", address=cluster.address) as engine:
                    watched, start = Watched(engine, options.blocks // 4, kill), time.perf_counter()
                    same = job(watched) == expected[name]
                    spent = time.perf_counter() - start
                there = watched.nodes.pop(second.node_id)
                row = {
                    "job": name,
                    "engine": "ray",
                    "killed": "node 2" if lose else "",
                    "s": spent,
                    "same": same,
                }
                rows.append({**row, "node 1": watched.nodes.total(), "node 2": there})
                cluster.shutdown()
    show(f"{options.blocks} blocks on two nodes", rows)
    save(options.json, environment("ray"), engines=rows)


if __name__ == "__main__":
    main()
