"""The engine of the processes that ``torchrun`` or Slurm started, without a scheduler."""

from __future__ import annotations

__all__ = ["Torchrun"]

import atexit
import os
import pickle
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from itertools import islice
from typing import Any, NoReturn, Self

import torch
import torch.distributed as dist

from featood.engines.engine import Work
from featood.engines.outcome import attempt
from featood.errors import FeatoodError, UsageError

PATIENCE = timedelta(days=1)  # of the other processes, while the first one works alone
SLURM = {"RANK": "SLURM_PROCID", "WORLD_SIZE": "SLURM_NTASKS", "LOCAL_RANK": "SLURM_LOCALID"}
"""Variables of torchrun, and those of ``srun`` that have the same meaning."""


class Torchrun:
    """Divide the items among the processes of a group: process r of w computes the items r, r + w, r + 2w, ...

    The first process runs the job; the others wait for functions from it, and end with it: they do not return from
    entering the context. Results arrive in rounds of one item for each process. If a process is lost, all end; what
    they wrote stays, and the same command, with any number of processes, continues from there.

    Raises
    ------
    UsageError
        If the process was started neither by torchrun nor by Slurm.
    """

    def __init__(self) -> None:
        for name, other in SLURM.items():
            if name not in os.environ and other in os.environ:
                os.environ[name] = os.environ[other]
        if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
            raise UsageError(
                "the engine torchrun needs processes that torchrun or srun started: "
                "torchrun --nproc-per-node 2 -m featood ..."
            )
        self.rank, self.world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])

    def __enter__(self) -> Self:
        """Join the group; in all but the first process, serve it until it ends, then exit."""
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
        if self.world > 1 and not dist.is_initialized():  # once for all commands of a process
            os.environ.update({**_meeting_point(os.environ), **os.environ})
            _together(lambda: dist.init_process_group("gloo", timeout=PATIENCE))
            if self.rank:
                self._serve()
            atexit.register(_leave)
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is released: the other processes serve further commands of this one."""

    def map(self, work: Work, items: Sequence[Any]) -> Iterator[Any]:
        """Yield the result of each item."""
        if self.world == 1:
            yield from work(items)
            return
        try:
            _broadcast((work, items))
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise UsageError(f"this job cannot be sent to other processes ({error}); omit --engine") from None
        mine, left = work(items[:: self.world]), len(items)
        try:
            while left > 0:
                _broadcast(True)
                for outcome in islice(self._gather(mine), left):
                    yield outcome.unwrap()
                left -= self.world
        except (Exception, GeneratorExit):
            _broadcast(False)
            raise
        except BaseException:  # interrupted within a round, so that the others cannot be told
            atexit.unregister(_leave)
            raise
        _broadcast(False)

    def _gather(self, results: Iterator[Any]) -> list[Any]:
        """Compute the next result of this process; the first process gets those of all."""
        found = attempt(results)
        outcomes: list[Any] | None = None if self.rank else [None] * self.world
        _together(lambda: dist.gather_object(found, outcomes))
        return outcomes or []

    def _serve(self) -> NoReturn:
        """Compute results for the first process until it ends."""
        while (job := _broadcast(None)) is not None:
            work, items = job
            mine = work(items[self.rank :: self.world])
            while _broadcast(None):
                self._gather(mine)
        dist.destroy_process_group()
        raise SystemExit(0)


def _leave() -> None:
    """Let the other processes end."""
    _broadcast(None)
    dist.destroy_process_group()


def _broadcast(value: Any) -> Any:
    """Send a value from the first process to all, which return it."""
    values = [value]
    _together(lambda: dist.broadcast_object_list(values, 0))
    return values[0]


def _together(exchange: Callable[[], Any]) -> None:
    """Exchange values with the other processes.

    Raises
    ------
    FeatoodError
        If one of them has ended, or cannot be reached.
    """
    try:
        exchange()
    except (dist.DistError, RuntimeError) as error:
        atexit.unregister(_leave)
        raise FeatoodError(
            "another process of the group has ended, or cannot be reached; start the same command again, which resumes"
        ) from error


def _meeting_point(environment: Mapping[str, str]) -> dict[str, str]:
    """Return address and port at which the processes meet: under Slurm, the first machine of the job.

    Examples
    --------
    >>> _meeting_point({"SLURM_JOB_NODELIST": "gpu[07-09,12],cpu1", "SLURM_JOB_ID": "4711"})
    {'MASTER_ADDR': 'gpu07', 'MASTER_PORT': '24711'}
    """
    first = re.match(r"([^\[,]+)(?:\[(\d+))?", environment.get("SLURM_JOB_NODELIST", "127.0.0.1"))
    assert first is not None
    port = 20000 + int(environment.get("SLURM_JOB_ID", "0")) % 10000
    return {"MASTER_ADDR": "".join(filter(None, first.groups())), "MASTER_PORT": str(port)}
