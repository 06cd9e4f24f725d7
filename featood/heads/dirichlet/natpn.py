r"""Natural posterior network.

.. math:: \alpha_c = 1 + N_H \, q(h(z)) \, p_c(h(z))

with an encoder :math:`h` into H dimensions, the density :math:`q` of one normalising flow there, the class
probabilities :math:`p` of a linear classifier of the same latent features, and the certainty budget :math:`N_H`.
"""

from __future__ import annotations

__all__ = ["NatPN"]

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from featood.energies.dirichlet import bayesian_loss
from featood.errors import DataError
from featood.flows import AutoregressiveFlow, RadialFlows
from featood.heads.dirichlet.evidence import EvidenceHead
from featood.heads.dirichlet.scores import CHOICES
from featood.heads.perceptron_head import PerceptronHead
from featood.heads.registry import option, register
from featood.nets.initialise import seeded
from featood.numerics.dirichlet import concentrations

BUDGETS: Mapping[str, float] = {
    "constant": 0.0,
    "exp-half": 0.5,
    "exp": 1.0,
    "normal": 0.5 * math.log(4 * math.pi),
}
"""Logarithm of the certainty budget for each dimension of the latent space."""

FLOWS: Mapping[str, Callable[[int, int, int, torch.Generator], nn.Module]] = {
    "radial": lambda size, layers, width, generator: RadialFlows(1, layers, size, generator),
    "maf": lambda size, layers, width, generator: AutoregressiveFlow(
        size, layers, [width], generator=generator
    ),
}


class NaturalPosteriorNetwork(nn.Module):
    """Encoder, normalisation of its output, and of that a density and class probabilities."""

    def __init__(
        self, encoder: nn.Module, flow: nn.Module, latent: int, classes: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.norm = nn.BatchNorm1d(latent)
        self.flow = flow
        with seeded(generator):
            self.classifier = nn.Linear(latent, classes)

    def forward(self, rows: Tensor) -> Tensor:
        """Return the logarithm of density times class probabilities ``[B, C]``, in float64."""
        latent = self.norm(self.encoder(rows))
        log_density = self.flow.log_density(latent).double().reshape(-1, 1)  # type: ignore[operator]
        return log_density + self.classifier(latent).double().log_softmax(1)


@register(
    "natpn",
    title="Natural posterior network",
    paper="Charpentier et al., Natural Posterior Network: Deep Bayesian Predictive Uncertainty for Exponential "
    "Family Distributions, ICLR",
    year=2022,
    url="https://arxiv.org/abs/2105.04471",
    needs=("features", "labels"),
)
class NatPN(EvidenceHead, PerceptronHead):
    """Score the Dirichlet distribution of a classifier whose evidence is one density in its latent space.

    The concentrations are ``alpha_c = 1 + N_H q(h(z)) p_c(h(z))``, and the score rises as the evidence falls.
    """

    testing_options: ClassVar[Mapping[str, Any]] = {
        "epochs": 8, "batch_size": 64, "width": 16, "depth": 1, "latent": 3, "layers": 2, "lr": 1e-2,
    }  # fmt: skip

    negative_linear: ClassVar[bool] = False  # type: ignore[misc]  # no option any more: its outputs are no logits
    which: str = option("alpha0", "score to return", choices=CHOICES)
    depth: int = option(3, "hidden layers of the encoder", low=0)
    width: int = option(64, "units of a hidden layer", low=1)
    latent: int = option(16, "size of the latent space", low=1)
    flow: str = option("maf", "masked autoregressive, or radial", choices=tuple(FLOWS))
    layers: int = option(3, "layers of the flow", low=1)
    budget: str = option(
        "normal",
        "certainty budget of H latent dimensions: 1, exp(H/2), exp(H), or (4 pi)^(H/2)",
        choices=tuple(BUDGETS),
    )
    entropy_weight: float = option(1e-5, "weight of the Dirichlet entropy, which the loss rewards", low=0)
    epochs: int = option(100, "passes over the training rows", low=1)
    batch_size: int = option(64, "rows in a batch", low=2)

    def build(self, size: int, classes: int, generator: torch.Generator) -> NaturalPosteriorNetwork:
        """Make the network."""
        encoder = self.mlp(size, self.latent, generator)
        flow = FLOWS[self.flow](self.latent, self.layers, self.width, generator)
        return NaturalPosteriorNetwork(encoder, flow, self.latent, classes, generator)

    def initialize(self, model: nn.Module, rows: Tensor, labels: Tensor) -> None:
        """Refuse a single row."""
        if len(rows) < 2:
            raise DataError(f"{self.name}: one row cannot be normalised; fit on more rows")

    def losses(
        self, model: Any, rows: Tensor, labels: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Return the Bayesian loss."""
        log_alpha = concentrations(self.log_evidence(model, rows), self.prior)
        return bayesian_loss(log_alpha, labels, entropy=self.entropy_weight)

    def log_evidence(self, model: Any, rows: Tensor) -> Tensor:
        """Return the logarithm of budget times density, shared out over the classes ``[B, C]``."""
        return model(rows) + BUDGETS[self.budget] * self.latent
