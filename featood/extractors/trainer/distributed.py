"""Several processes that train one network, as ``torchrun`` starts them; one process needs nothing of it."""

from __future__ import annotations

__all__ = ["ALONE", "Processes", "leads", "processes"]

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

from featood.errors import UsageError


class Processes(NamedTuple):
    """The place of this process among those that train together."""

    rank: int = 0
    world: int = 1

    def wrap(self, module: nn.Module, device: torch.device) -> nn.Module:
        """Return a module whose gradients are the means over all processes."""
        if self.world == 1:
            return module
        devices = [device] if device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(module, device_ids=devices, find_unused_parameters=True)

    def mean(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Replace the values of losses by their means over all processes; gradients stay those of this one."""
        if self.world == 1:
            return dict(losses)
        values = torch.stack([value.detach().double() for value in losses.values()])
        dist.all_reduce(values)
        means = (values / self.world).unbind()
        return {
            name: value + (mean.to(value.dtype) - value.detach())
            for (name, value), mean in zip(losses.items(), means, strict=True)
        }

    def agree(self, module: nn.Module) -> None:
        """Give the buffers of all processes the values of the first."""
        if self.world > 1:
            for buffer in module.buffers():
                dist.broadcast(buffer, 0)

    def share(self, size: int, what: str) -> int:
        """Return this process's share of a batch.

        Raises
        ------
        UsageError
            If the batch cannot be divided evenly, so that its mean would not be that of the shares' means.
        """
        if size % self.world:
            raise UsageError(
                f"{what} of {size} cannot be divided among {self.world} processes; take a multiple"
            )
        return size // self.world


ALONE = Processes()


def leads() -> bool:
    """Whether this process, of those that train together, writes files and reports."""
    return int(os.environ.get("RANK", "0")) == 0


@contextmanager
def processes(cuda: bool) -> Iterator[Processes]:
    """Join the processes that ``torchrun`` started, for the time of the outermost context; without it there is one.

    Parameters
    ----------
    cuda : bool
        Whether to train on GPUs, one for each process.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ALONE
        return
    if dist.is_initialized():
        yield Processes(dist.get_rank(), dist.get_world_size())
        return
    if cuda:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group("nccl" if cuda else "gloo")
    try:
        yield Processes(dist.get_rank(), dist.get_world_size())
        dist.barrier()
    finally:
        dist.destroy_process_group()
