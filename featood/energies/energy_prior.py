"""Energy-prior networks: classifiers whose evidence is learned as the exponential of an energy."""

from __future__ import annotations

__all__ = ["EnergyPriorObjective", "GeneratedEnergyPriorObjective", "VeraPosteriorObjective"]

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from featood.energies.contrastive import contrastive_divergence
from featood.energies.dirichlet import bayesian_loss, evidence_divergence, uncertain_cross_entropy
from featood.energies.gaussian_base import learned_energy
from featood.energies.replay import SampledObjective, random_classes
from featood.energies.vera import VeraObjective
from featood.numerics.dirichlet import concentrations, differential_entropy
from featood.options import option

PRIOR = 1.0
"""Concentrations are the exponentials of the logits plus this number."""


@dataclasses.dataclass(kw_only=True, eq=False)
class EnergyPriorObjective(SampledObjective):
    """Learn class evidence, and its sum by contrast with Langevin samples of randomly drawn classes (EPN-M).

    References
    ----------
    Elflein, Out-of-distribution Detection with Energy-based Models, 2023.
    """

    supervised: ClassVar[bool] = True

    classification: float = option(1.0, "weight of the uncertain cross-entropy in the loss", low=0)
    entropy_weight: float = option(
        1e-4, "weight of the entropy regulariser of the inputs' Dirichlet distributions", low=0
    )
    l2: float = option(0.1, "weight of the squared energies in the loss", low=0)

    def energy_losses(
        self,
        net: nn.Module,
        parts: Mapping[str, Any],
        rows: Tensor,
        labels: Tensor,
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """Sample, then contrast and classify."""
        chains, count = parts["chains"], len(rows)
        drawn = random_classes(count, chains, generator)
        samples = self.samples(net, chains, count, generator, drawn)
        losses = contrastive_divergence(learned_energy(net), rows, samples, l2=self.l2)
        log_alpha = concentrations(net(rows), PRIOR)
        named = bayesian_loss(log_alpha, labels, entropy=self.entropy_weight)["loss"]
        return {**losses, "loss": losses["loss"] + self.classification * named, "classification": named}


@dataclasses.dataclass(kw_only=True, eq=False)
class GeneratedEnergyPriorObjective(VeraObjective):
    """Learn class evidence, and its sum by contrast with samples of a generator (EPN-V).

    References
    ----------
    Elflein, Out-of-distribution Detection with Energy-based Models, 2023.
    """

    supervised: ClassVar[bool] = True

    l2: float = option(0.1, "weight of the squared energies in the loss", low=0)
    l2_per_feature: bool = option(
        False, "divide that weight by the size of the inputs, because energies grow with it"
    )
    classification: float = option(1.0, "weight of the classification loss", low=0)
    target: float = option(
        100.0, "target concentration of an input's own class; 0 for its total evidence", low=0
    )
    entropy_weight: float = option(
        0.0, "weight of the entropy regulariser of the inputs' Dirichlet distributions", low=0
    )
    sample_entropy: float = option(
        0.0,
        "weight of the entropy regulariser on generator samples (minus their divergence to the flat distribution)",
        low=0,
    )

    def class_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the classification loss of each input ``[B]``."""
        return evidence_divergence(logits, labels, self.target)

    def energy_losses(
        self,
        net: nn.Module,
        parts: Mapping[str, Any],
        rows: Tensor,
        labels: Tensor,
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """Add the classification loss to the losses of energy and generator."""
        losses = super().energy_losses(net, parts, rows, labels, generator)
        logits = net(rows).double()
        named = self.class_loss(logits, labels).mean()
        loss = losses["loss"] + self.classification * named - self.entropy_weight * _entropy(logits)
        if self.sample_entropy:
            samples = parts["sampler"].sample(len(rows), generator)[0].detach()
            loss = loss - self.sample_entropy * _entropy(net(samples).double())
        return {**losses, "loss": loss, "classification": named}


@dataclasses.dataclass(kw_only=True, eq=False)
class VeraPosteriorObjective(GeneratedEnergyPriorObjective):
    """As its base, with the uncertain cross-entropy, which has no target, as classification loss."""

    target: ClassVar[float] = 0.0  # type: ignore[misc]  # not an option

    classification: float = option(10.0, "weight of the classification loss", low=0)
    entropy_weight: float = option(
        1e-4, "weight of the entropy regulariser of the inputs' Dirichlet distributions", low=0
    )

    def class_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the uncertain cross-entropy ``[B]``."""
        return uncertain_cross_entropy(concentrations(logits, PRIOR), labels)


def _entropy(logits: Tensor) -> Tensor:
    return differential_entropy(concentrations(logits, PRIOR)).mean()
