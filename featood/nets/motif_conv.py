"""Convolutions over one-hot sequences that find motifs anywhere."""

from __future__ import annotations

__all__ = ["MotifConv"]

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from featood.errors import UsageError
from featood.nets.initialise import seeded
from featood.nets.mlp import ACTIVATIONS

LAYERS = 3


class MotifConv(nn.Module):
    """Three convolutions over positions, and the maximum of each filter over all positions.

    Parameters
    ----------
    tokens : int
        Number of values of a token K.
    filters : int
        Filters of the last convolution; the first has a quarter of them, the second half.
    kernel : int
        Positions that a filter covers.
    activation : str
        A key of :data:`featood.nets.mlp.ACTIVATIONS`, applied after each convolution.
    generator : torch.Generator, optional
        Source of the initial weights; ``None`` is seed 0.

    Raises
    ------
    UsageError
        If the activation is unknown, there are fewer than four filters, or the kernel covers no position.

    References
    ----------
    The sequence classifier of Elflein et al., On Out-of-distribution Detection with Energy-based Models, 2021
    (https://github.com/selflein/EBM-OOD-Detection), after that of Ren et al., NeurIPS 2019, with one convolution.
    """

    def __init__(
        self,
        tokens: int,
        filters: int = 128,
        kernel: int = 20,
        activation: str = "relu",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise UsageError(f"unknown activation {activation!r}; choose one of {', '.join(ACTIVATIONS)}")
        if filters < 4 or kernel < 1:
            raise UsageError(f"motifs need at least 4 filters of 1 position, got {filters} of {kernel}")
        self.filters = filters
        self.shortest = LAYERS * (kernel - 1) + 1
        """Length of the shortest sequence that the convolutions fit into."""
        layers: list[nn.Module] = []
        with seeded(generator):
            for before, after in pairwise((tokens, filters // 4, filters // 2, filters)):
                layers += [nn.Conv1d(before, after, kernel), ACTIVATIONS[activation]()]
        self.layers = nn.Sequential(*layers)

    def forward(self, one_hot: Float[Tensor, "B L K"]) -> Float[Tensor, "B {self.filters}"]:
        """Map one-hot sequences ``[B, L, K]`` to ``[B, filters]``."""
        return self.layers(one_hot.transpose(1, 2)).amax(2)
