"""A plain multilayer perceptron, for energies and densities over feature vectors."""

from __future__ import annotations

__all__ = ["ACTIVATIONS", "MLP"]

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import nn

from featood.errors import UsageError
from featood.nets.initialise import seeded

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "leaky_relu": lambda: nn.LeakyReLU(0.2),
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
}


class MLP(nn.Sequential):
    """Linear layers with an activation between them, mapping ``[B, in_features]`` to ``[B, out_features]``.

    Parameters
    ----------
    in_features
        Width of the input.
    hidden
        Widths of the hidden layers; none of them makes a linear map.
    out_features
        Width of the output.
    activation
        A key of :data:`ACTIVATIONS`. The leaky rectifier has slope 0.2, as is usual for energy functions.
    generator
        Source of the initial weights; ``None`` is seed 0.

    Raises
    ------
    UsageError
        If the activation is unknown or a width is below one.
    """

    def __init__(
        self,
        in_features: int,
        hidden: Sequence[int],
        out_features: int,
        activation: str = "leaky_relu",
        generator: torch.Generator | None = None,
    ) -> None:
        if activation not in ACTIVATIONS:
            raise UsageError(f"unknown activation {activation!r}; choose one of {', '.join(ACTIVATIONS)}")
        widths = [in_features, *hidden, out_features]
        if min(widths) < 1:
            raise UsageError(f"the layers of an MLP have at least one unit each, not {widths}")
        layers: list[nn.Module] = []
        with seeded(generator):
            for before, after in pairwise(widths):
                layers += [nn.Linear(before, after), ACTIVATIONS[activation]()]
        super().__init__(*layers[:-1])
