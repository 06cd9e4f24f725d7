"""Network of a natural posterior network: one density in a latent space, shared out by class probabilities."""

from __future__ import annotations

__all__ = ["BUDGETS", "CLASS_FLOWS", "FLOWS", "NaturalPosteriorNetwork", "limited"]

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from featood.flows.autoregressive import AutoregressiveFlow
from featood.flows.class_mixture import ClassMixture
from featood.flows.radial import RadialFlows, SingleRadialFlow
from featood.nets.initialise import seeded

BUDGETS: Mapping[str, float] = {
    "constant": 0.0,
    "exp-half": 0.5,
    "exp": 1.0,
    "normal": 0.5 * math.log(4 * math.pi),
}
"""Logarithm of the certainty budget per dimension of the latent space."""

FLOWS: Mapping[str, Callable[[int, int, int, torch.Generator], nn.Module]] = {
    "radial": lambda size, layers, width, generator: RadialFlows(1, layers, size, generator),
    "maf": lambda size, layers, width, generator: AutoregressiveFlow(
        size, layers, [width], generator=generator
    ),
}
"""Constructors of densities, from the latent size, the layers, and the width of hidden layers."""
CLASS_FLOWS: Mapping[str, Callable[[int, int, int, torch.Generator], nn.Module]] = {
    **FLOWS,
    "radial": lambda size, layers, width, generator: SingleRadialFlow(layers, size, generator),
}
"""Constructors of flows for :class:`ClassMixture`."""


class NaturalPosteriorNetwork(nn.Module):
    """Encoder with optional normalisation of its output, and the density and class probabilities of the result."""

    def __init__(
        self,
        encoder: nn.Module,
        flow: nn.Module,
        latent: int,
        classes: int,
        generator: torch.Generator,
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.norm = nn.BatchNorm1d(latent) if batch_norm else nn.Identity()
        self.flow = flow
        with seeded(generator):
            self.classifier = nn.Linear(latent, classes)

    def latents(self, rows: Tensor) -> Tensor:
        """Return the latent features ``[B, H]``."""
        return self.norm(self.encoder(rows))

    def log_density(self, latents: Tensor) -> Tensor:
        """Return the log-density of latent features ``[B]``, in float64."""
        return self.flow.log_density(latents).double().reshape(-1)  # type: ignore[operator]

    def log_likelihood(self, latents: Tensor, labels: Tensor) -> Tensor:
        """Return the log-density of latent features in their class ``[B]``, if the density has classes."""
        if not isinstance(self.flow, ClassMixture):
            return self.log_density(latents)
        return self.flow.log_densities(latents).double().gather(1, labels[:, None]).squeeze(1)

    def log_probabilities(self, latents: Tensor) -> Tensor:
        """Return the logarithm of the class probabilities ``[B, C]``, in float64."""
        return self.classifier(latents).double().log_softmax(1)


def limited(log_evidence: Tensor, limit: float) -> Tensor:
    """Clip log-evidence to ``[-limit, limit]``; the gradient passes, as rows beyond the limit would get no update."""
    return log_evidence + (log_evidence.clamp(-limit, limit) - log_evidence).detach()
