"""The engine of a Ray cluster."""

from __future__ import annotations

__all__ = ["Ray"]

import logging
import os
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, Self

import torch

from featood.engines.engine import Work
from featood.engines.outcome import Outcome, attempt
from featood.errors import MissingPackage, UsageError

AHEAD = 2
"""Tasks that are submitted for each one that can run at once, so that no process waits for the next item."""
_held: tuple[str, Work] | None = None


class Ray:
    """Compute each item as a task of a Ray cluster, which repeats it elsewhere if its machine is lost.

    Every process keeps the function of its last task, so that a backbone is loaded once in each, as by an actor. Unlike
    actors, which after a loss would wait for a free GPU, tasks run on the machines that remain. A task computes with as
    many threads as this process, since the last bits of sums depend on it. All machines must see the cache under the
    same path.

    Parameters
    ----------
    address : str
        Address of the cluster, such as ``auto`` or ``ray://HOST:10001``; by default that of the variable RAY_ADDRESS,
        or else a cluster on this machine that ends with the job.
    gpus : float
        GPUs of each task; a fraction lets several tasks share one.

    Raises
    ------
    MissingPackage
        If Ray is not installed.
    """

    def __init__(self, address: str = "", gpus: float = 0.0) -> None:
        try:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # which Ray would send to its authors
            import ray
        except ImportError:
            raise MissingPackage("the engine ray needs Ray: pip install 'featood[ray]'") from None
        self._ray: Any = ray
        self.address, self.gpus = address, gpus
        self._started = False

    def __enter__(self) -> Self:
        """Connect to the cluster, or start one.

        Raises
        ------
        UsageError
            If there is no cluster at the address, or none of its machines has the processors or GPUs of a task.
        """
        if not self._ray.is_initialized():
            try:
                self._ray.init(
                    self.address or None, include_dashboard=False, log_to_driver=False,
                    logging_level=logging.ERROR,
                )  # fmt: skip
            except ConnectionError as error:
                raise UsageError(f"no Ray cluster answers at {self.address}: {error}") from None
            self._started = True
        self._threads = torch.get_num_threads()
        fitting = [
            min(node.get("CPU", 0) / self._threads, node.get("GPU", 0) / self.gpus if self.gpus else 1e9)
            for node in (node["Resources"] for node in self._ray.nodes() if node["Alive"])
        ]
        self._slots = sum(map(int, fitting))
        if not self._slots:
            raise UsageError(
                f"no machine of the Ray cluster has {self._threads} processors and {self.gpus:g} GPUs for a task; "
                "use fewer threads (OMP_NUM_THREADS) or a smaller share of a GPU (--ray-gpus)"
            )
        return self

    def __exit__(self, *_: object) -> None:
        """Disconnect."""
        if self._started:
            self._ray.shutdown()

    def map(self, work: Work, items: Sequence[Any]) -> Iterator[Any]:
        """Yield the result of each item."""
        # by default a process with a GPU ends after each task
        remote = self._ray.remote(
            num_cpus=self._threads, num_gpus=self.gpus, max_retries=-1, max_calls=0
        )(_run)  # fmt: skip
        shared, waiting = self._ray.put(work), deque[Any]()
        try:
            for item in items:
                waiting.append(remote.remote([shared], item, self._threads))
                if len(waiting) >= AHEAD * self._slots:
                    yield self._ray.get(waiting.popleft()).unwrap()
            while waiting:
                yield self._ray.get(waiting.popleft()).unwrap()
        finally:
            for task in waiting:
                self._ray.cancel(task)


def _run(shared: list[Any], item: Any, threads: int) -> Outcome:
    """Compute the result of one item; `shared` has the reference of the function, which Ray would copy each time."""
    import ray

    global _held
    key = shared[0].hex()
    if _held is None or _held[0] != key:
        _held = key, ray.get(shared[0])
    torch.set_num_threads(threads)
    return attempt(_held[1]([item]))
