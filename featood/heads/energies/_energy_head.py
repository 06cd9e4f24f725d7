"""Base classes of the heads that learn an energy of the features."""

from __future__ import annotations

__all__ = ["PUBLISHED", "EnergyHead", "EnergyNet", "SampledHead"]

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from featood.energies import EnergyObjective, SampledObjective, free_energy
from featood.heads.base.perceptron_head import PerceptronHead
from featood.options import option

PUBLISHED: Mapping[str, Any] = {
    "sgld_steps": 100,
    "step_size": 1.0,
    "noise": 0.01,
    "spread": 1.0,
    "buffer_size": 9000,
    "l2": 1.0,
}
"""Common sampler and regularisation settings for energies of vectors with persistent contrastive divergence."""


class EnergyNet(nn.Module):
    """Logits of a network, and their free energy; submodules other than ``net`` are used in training only."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, rows: Tensor) -> Tensor:
        """Return logits ``[B, C]``."""
        return self.net(rows)

    def energy(self, rows: Tensor) -> Tensor:
        """Return the free energy of the logits ``[B]``."""
        return free_energy(self.net)(rows)


@dataclasses.dataclass(kw_only=True, eq=False)
class EnergyHead(EnergyObjective, PerceptronHead):
    """Base of heads whose score is the free energy of a perceptron, learned by an objective for inputs of any shape."""

    testing_options: ClassVar[Mapping[str, Any]] = {
        "epochs": 5,
        "batch_size": 64,
        "width": 32,
        "depth": 1,
        "lr": 2e-2,
    }

    def build(self, size: int, classes: int, generator: torch.Generator) -> nn.Module:
        """Make the perceptron, and the modules that the objective adds."""
        model = EnergyNet(self.mlp(size, self.outputs(classes), generator))
        for name, part in self.energy_parts((size,), classes, generator).items():
            model.add_module(name, part)
        return model

    def initialize(self, model: Any, rows: Tensor, labels: Tensor) -> None:
        """Set what the added modules take from the training rows."""
        generator = torch.Generator(rows.device).manual_seed(self.seed)
        self.start_parts(dict(model.named_children()), [(rows, labels)], generator)

    def losses(
        self, model: Any, rows: Tensor, labels: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Return the losses of the objective."""
        return self.energy_losses(model.net, dict(model.named_children()), rows, labels, generator)

    def score_rows(self, model: Any, rows: Tensor) -> Tensor:
        """Return energies ``[B]``."""
        return model.energy(rows)

    def classify_rows(self, model: Any, rows: Tensor) -> Tensor | None:
        """Return the logits ``[B, C]``, or None if the network has a single output."""
        logits = model(rows)
        return logits if logits.shape[1] > 1 else None


@dataclasses.dataclass(kw_only=True, eq=False)
class SampledHead(SampledObjective, EnergyHead):
    """Base of heads trained on Langevin samples that are kept in a replay buffer.

    The preset ``published`` uses long steps with little noise instead of those of exact Langevin dynamics.
    """

    testing_options: ClassVar[Mapping[str, Any]] = {
        **EnergyHead.testing_options,
        "sgld_steps": 5,
        "buffer_size": 200,
    }

    validation: float = option(
        0.0,
        "share of the rows held out; their contrastive loss says little about the quality of the fit",
        low=0,
        high=0.9,
    )
