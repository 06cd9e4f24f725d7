r"""Network of a posterior network: class densities in a latent space, counted as evidence.

.. math:: \alpha_c = 1 + N_c \, q_c(h(z))

with an encoder :math:`h`, a normalising flow :math:`q_c` for each class, and the certainty budget :math:`N_c`.
Concentrations stay in log space throughout, because a density may exceed the largest float.
"""

from __future__ import annotations

__all__ = ["BUDGETS", "DENSITIES", "PosteriorNetwork", "log_budget", "settled_latents"]

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from featood.flows.mixtures import GaussianMixtures
from featood.flows.radial import RadialFlows
from featood.nets.initialise import seeded

BUDGETS: dict[str, Callable[[Tensor], Tensor]] = {
    "one": torch.zeros_like,
    "log": lambda counts: counts.log1p().log(),
    "id": torch.log,
    "id-normalized": lambda counts: (counts / counts.sum()).log(),
    "exp": lambda counts: counts,
}

DENSITIES: dict[str, Callable[[int, int, int, torch.Generator | None], nn.Module]] = {
    "radial": RadialFlows,
    "normal-mixture": GaussianMixtures,
}
"""Constructors of the class densities, from the numbers of classes, layers or components, and latent dimensions."""


def log_budget(counts: Tensor, kind: str) -> Tensor:
    """Logarithm of the certainty budget of each class.

    Parameters
    ----------
    counts : Tensor
        ``[C]`` training rows of each class.
    kind : str
        ``one``: 1; ``log``: ``log(n + 1)``; ``id``: n; ``id-normalized``: the share of n; ``exp``: ``exp(n)``.

    Returns
    -------
    Tensor
        ``[C]`` in float64; minus infinity for a class without rows, which has no evidence.
    """
    counts = counts.double()
    return BUDGETS[kind](counts).masked_fill(counts == 0, -math.inf)


class PosteriorNetwork(nn.Module):
    """Encoder, normalisation of its output, and a density for each class.

    Parameters
    ----------
    encoder : Module
        From rows ``[B, D]`` to ``[B, latent]``.
    latent, layers, classes : int
        Latent size, layers of each flow or components of each mixture, and classes.
    density : str
        One of :data:`DENSITIES`.
    generator : torch.Generator, optional
        Source of the initial weights.
    """

    counts: Tensor
    encoder_steps: Tensor

    def __init__(
        self,
        encoder: nn.Module,
        latent: int,
        layers: int,
        classes: int,
        generator: torch.Generator | None = None,
        density: str = "radial",
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.norm = nn.BatchNorm1d(latent)
        self.flows = DENSITIES[density](classes, layers, latent, generator)
        with seeded(generator):
            self.readout = nn.Linear(latent, classes)
        self.register_buffer("counts", torch.zeros(classes, dtype=torch.long))
        self.register_buffer("encoder_steps", torch.tensor(0))

    def evidence(self, encoded: Tensor, budget: str) -> Tensor:
        """Log of budget times density of each class ``[B, C]`` in float64, for encoded rows ``[B, latent]``."""
        densities = self.flows.log_density(self.norm(encoded))  # type: ignore[operator]
        return densities + log_budget(self.counts, budget)


@torch.no_grad()
def settled_latents(model: Any, rows: Tensor) -> Tensor:
    """Return the latent features of rows with the encoder and the normalisation of a network frozen."""
    was = model.norm.training
    latents = model.norm.eval()(model.encoder(rows))
    model.norm.train(was)
    return latents
