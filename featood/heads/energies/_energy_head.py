"""Base classes of the heads that learn an energy of the features."""

from __future__ import annotations

__all__ = ["PUBLISHED", "EnergyHead", "EnergyNet", "SampledHead"]

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from featood.energies import ReplayBuffer, free_energy
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
class EnergyHead(PerceptronHead):
    """Base of heads whose score is the free energy of a perceptron, with a single output or one per class."""

    testing_options: ClassVar[Mapping[str, Any]] = {
        "epochs": 15,
        "batch_size": 64,
        "width": 32,
        "depth": 1,
        "lr": 2e-2,
    }

    def outputs(self, classes: int) -> int:
        """Return the number of outputs of the network: 1, unless the head classifies."""
        return 1

    def build(self, size: int, classes: int, generator: torch.Generator) -> EnergyNet:
        """Make the perceptron."""
        return EnergyNet(self.mlp(size, self.outputs(classes), generator))

    def score_rows(self, model: Any, rows: Tensor) -> Tensor:
        """Return energies ``[B]``."""
        return model.energy(rows)

    def classify_rows(self, model: Any, rows: Tensor) -> Tensor | None:
        """Return the logits ``[B, C]``, or None if the network has a single output."""
        logits = model(rows)
        return logits if logits.shape[1] > 1 else None


@dataclasses.dataclass(kw_only=True, eq=False)
class SampledHead(EnergyHead):
    """Base of heads trained on Langevin samples that are kept in a replay buffer.

    By default the noise is that of exact Langevin dynamics, with variance twice the step size, so that samples
    follow the density ``exp(-E)``. The preset ``published`` uses long steps with little noise instead.
    """

    transient = ("chains",)
    testing_options: ClassVar[Mapping[str, Any]] = {
        **EnergyHead.testing_options,
        "sgld_steps": 5,
        "buffer_size": 200,
    }

    sgld_steps: int = option(20, "Langevin steps between two updates", low=1)
    step_size: float = option(0.1, "Langevin step size", low=0)
    noise: float = option(0.447, "standard deviation of the Langevin noise", low=0)
    validation: float = option(
        0.0,
        "share of the rows held out; their contrastive loss says little about the quality of the fit",
        low=0,
        high=0.9,
    )
    buffer_size: int = option(10_000, "number of persistent chains in the replay buffer", low=1)
    restart: float = option(0.05, "probability that a chain is reinitialised", low=0, high=1)
    spread: float = option(3.0, "chains are initialised uniformly in [-spread, spread]", low=0)
    gradient_clip: float = option(
        0.0, "largest absolute value of each element of the sampler's gradient; 0 for no limit", low=0
    )
    value_clamp: float = option(
        0.0, "largest absolute value of each element of a sample; 0 for no limit", low=0
    )

    def build(self, size: int, classes: int, generator: torch.Generator) -> EnergyNet:
        """Make the perceptron and the buffer."""
        model = super().build(size, classes, generator)
        model.chains = ReplayBuffer(
            (size,),
            self.buffer_size,
            generator=generator,
            classes=self.outputs(classes),
            spread=self.spread,
            restart=self.restart,
        )
        return model

    @property
    def sampling(self) -> dict[str, Any]:
        """Arguments of the sampler."""
        return {
            "steps": self.sgld_steps,
            "step_size": self.step_size,
            "noise": self.noise,
            "gradient_limit": self.gradient_clip or None,
            "bounds": (-self.value_clamp, self.value_clamp) if self.value_clamp else None,
        }
