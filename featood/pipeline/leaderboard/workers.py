"""Processes that make fits, one at a time each; a process whose fit takes too long is ended and replaced."""

from __future__ import annotations

__all__ = ["Outcome", "make_fits"]

import contextlib
import math
import multiprocessing
import time
import warnings
from collections import deque
from collections.abc import Generator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

import numpy as np

from featood.errors import DataError
from featood.pipeline.leaderboard.fits import Job, fit_and_score, left_out, open_sets
from featood.pipeline.leaderboard.plan import Plan
from featood.pipeline.leaderboard.work import Work


class Outcome(NamedTuple):
    """What became of a job."""

    fit: tuple[dict[str, Any], np.ndarray] | None = None
    """Its line and ranks; the line of a head that took longer than the cap says so."""
    error: str = ""
    """An unexpected error, which need not be a property of the head, if there is no line."""


def make_fits(
    work: Work, jobs: Sequence[Job], processes: int, cap: float
) -> Generator[tuple[Job, Outcome], None, None]:
    """Make fits in several processes of one thread each.

    Parameters
    ----------
    work : Work
        The plan, and the cache, which each process opens.
    jobs : sequence of Job
    processes : int
        Number of processes.
    cap : float
        Maximum seconds of a job.

    Yields
    ------
    (Job, Outcome)
        Each job when it is finished. All processes end when the generator is closed.

    Raises
    ------
    DataError
        If a process ends before its first job.
    """
    waiting = deque(jobs)
    workers: list[_Worker] = []
    try:
        while waiting or workers:
            idle = sum(worker.job is None for worker in workers)
            for _ in range(min(processes - len(workers), len(waiting) - idle)):
                workers.append(_Worker(str(work.cache.root), work.plan))
            left = min(worker.deadline for worker in workers) - time.monotonic()
            ready = wait([worker.pipe for worker in workers], None if math.isinf(left) else max(left, 0.0))
            for worker in list(workers):
                job = worker.job
                if worker.pipe in ready:
                    outcome = worker.receive()
                elif job is not None and worker.deadline < time.monotonic():
                    reason = f"takes over {cap:g} s for one fit"
                    line = left_out(work.plan, job, work.sets[job.benchmark], reason, over_s=cap)
                    outcome = Outcome((line, np.empty(0, np.uint8)))
                else:
                    continue
                if waiting and worker.pipe in ready and not outcome.error:
                    worker.give(waiting.popleft(), cap)
                else:
                    workers.remove(worker)
                    worker.end()
                if job is not None:
                    yield job, outcome
                elif outcome.error:
                    raise DataError(f"a process for the fits has ended: {outcome.error}")
    finally:
        for worker in workers:
            worker.end()


class _Worker:
    """A process, and the job that it has; it sends an empty outcome when it is ready for the first one."""

    def __init__(self, cache_root: str, plan: Plan) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, there = context.Pipe()
        self.process = context.Process(target=_work, args=(there, cache_root, plan), daemon=True)
        self.process.start()
        there.close()
        self.job: Job | None = None
        self.deadline = math.inf

    def give(self, job: Job, cap: float) -> None:
        """Send a job."""
        self.job, self.deadline = job, time.monotonic() + cap
        self.pipe.send(job)

    def receive(self) -> Outcome:
        """Receive an outcome."""
        try:
            return self.pipe.recv()
        except (EOFError, OSError):
            return Outcome(error="it was killed, possibly because memory was short")

    def end(self) -> None:
        """End the process, whatever it does."""
        self.process.terminate()
        self.process.join()
        self.pipe.close()


def _work(pipe: Connection, cache_root: str, plan: Plan) -> None:
    import torch
    from threadpoolctl import threadpool_limits

    from featood.cache import open_cache

    warnings.simplefilter("ignore")  # the lines have them as notes
    torch.set_num_threads(1)
    cache = open_cache(cache_root)
    opened = {}
    # the other end is gone, or Ctrl-C has reached all processes: nobody waits for the outcome
    with threadpool_limits(1), contextlib.suppress(EOFError, BrokenPipeError, KeyboardInterrupt):
        pipe.send(Outcome())
        while True:
            job = pipe.recv()
            try:
                if job.benchmark not in opened:
                    opened[job.benchmark] = open_sets(cache, job.benchmark)
                outcome = Outcome(fit_and_score(plan, job, opened[job.benchmark]))
            except Exception as error:  # a crash of one head must not end the others
                outcome = Outcome(error=f"{type(error).__name__}: {error}".split("\n")[0])
            pipe.send(outcome)
