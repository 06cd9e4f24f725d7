"""Reproducible initial weights: every draw comes from one explicit generator."""

from __future__ import annotations

__all__ = ["he_normal_", "seeded"]

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def seeded(generator: torch.Generator | None = None) -> Iterator[None]:
    """Draw everything inside the block from ``generator``, and leave the global random state as it was.

    PyTorch's layers initialise themselves from the global CPU generator. Here that one is forked, seeded by
    one draw from ``generator``, and restored at the end, so layers need no initialiser of their own. Modules
    are built on the CPU, whatever the default device, so that a seed means the same weights everywhere.

    Parameters
    ----------
    generator
        Source of the seed; it advances by one draw, so two networks built in turn differ. ``None`` is seed 0.
    """
    seed = 0
    if generator is not None:
        seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        # torch.manual_seed would also reseed every accelerator, which the fork does not restore.
        torch.default_generator.manual_seed(seed)
        yield


def he_normal_(net: nn.Module) -> None:
    """Give convolutions He-normal weights (fan-out) and set every bias to zero, in place.

    References
    ----------
    He et al., Delving Deep into Rectifiers, ICCV 2015.
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
