"""Reproducible initial weights: all draws come from one explicit generator."""

from __future__ import annotations

__all__ = ["he_normal_", "seeded"]

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def seeded(generator: torch.Generator | None = None) -> Iterator[None]:
    """Seed all draws within the context by ``generator``, without changing the global random state.

    PyTorch's layers are initialised by the global CPU generator. This context forks it, seeds it with one draw from
    ``generator``, and restores it at the end. Modules are built on the CPU, whatever the default device, so that a seed
    gives the same weights everywhere.

    Parameters
    ----------
    generator
        Generator of the seed. It advances by one draw, so two networks built in turn differ. ``None`` means seed 0.
    """
    seed = 0
    if generator is not None:
        seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        # torch.manual_seed would also seed all accelerators, which the fork does not restore
        torch.default_generator.manual_seed(seed)
        yield


def he_normal_(net: nn.Module) -> None:
    """Initialise convolutions with He-normal weights (fan-out) and all biases with zero, in place.

    References
    ----------
    He et al., Delving Deep into Rectifiers, ICCV 2015.
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
