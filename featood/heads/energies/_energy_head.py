"""Base classes of the heads that learn an energy of the features."""

from __future__ import annotations

__all__ = ["PLAIN", "PUBLISHED", "EnergyHead", "EnergyNet", "SampledHead"]

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from featood.energies import EnergyObjective, GaussianBase, SampledObjective, TiltedNet, free_energy
from featood.errors import UsageError
from featood.heads.base.feature_head import space_option
from featood.heads.base.perceptron_head import PerceptronHead
from featood.options import option

PLAIN: Mapping[str, Any] = {"base": "none", "space": "standardize"}
"""Settings of all publications: the network is the whole energy, of standardised rows."""
PUBLISHED: Mapping[str, Any] = {
    **PLAIN,
    "sgld_steps": 100,
    "step_size": 1.0,
    "noise": 0.01,
    "spread": 1.0,
    "buffer_size": 9000,
    "l2": 1.0,
}
"""Common sampler and regularisation settings for energies of vectors with persistent contrastive divergence."""


class EnergyNet(nn.Module):
    """Logits of a network, and their free energy; submodules other than ``net`` are used in training only.

    If the network is a :class:`TiltedNet`, its rows are whitened.
    """

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
    """Base of heads that score the free energy of a perceptron, learned by an objective for inputs of any shape.

    An energy learned from nothing is no better on features of a classifier than a single Gaussian, and often much
    worse. So, by default, the network is added to the log-densities of Gaussian classes with one covariance, and sees
    rows that this covariance whitens; far from the data, the energy is about that of these classes. In the
    publications, the network is the whole energy (``base=none``).
    """

    testing_options: ClassVar[Mapping[str, Any]] = {
        "epochs": 5,
        "batch_size": 64,
        "width": 32,
        "depth": 1,
        "lr": 2e-2,
    }

    space: str = space_option("l2")
    base: str = option(
        "classes",
        "energy from which the network learns the difference: of one normal distribution for each class (if there are "
        "labels), of a single one, or none",
        choices=("classes", "gaussian", "none"),
    )
    ridge: float = option(
        1e-2, "smallest ridge on the covariance of the base, relative to its mean variance", low=0, high=1
    )

    def build(self, size: int, classes: int, generator: torch.Generator) -> nn.Module:
        """Make the perceptron with its base, and the modules that the objective adds."""
        net: nn.Module = self.mlp(size, self.outputs(classes), generator)
        if self.base != "none":
            net = TiltedNet(net, GaussianBase(size, classes if self.base == "classes" else 1))
        model = EnergyNet(net)
        for name, part in self.energy_parts((size,), classes, generator).items():
            model.add_module(name, part)
        return model

    def initialize(self, model: Any, rows: Tensor, labels: Tensor) -> None:
        """Fit the base, and set what the added modules take from the training rows."""
        if self.base != "none":
            known = labels if self.base == "classes" else torch.zeros_like(labels)
            model.net.base.fit(rows, known, self.ridge)
            rows = self.inputs(model, rows)
        self.start_modules(model, rows, labels)

    def inputs(self, model: Any, rows: Tensor) -> Tensor:
        """Return rows whitened by the base, if there is one."""
        return rows if self.base == "none" else model.net.base.whiten(rows)

    def start_modules(self, model: Any, rows: Tensor, labels: Tensor) -> None:
        """Set what the added modules take from the rows that the network is trained on."""
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

    Chains move among whitened rows, if there is a base. The preset ``published`` has none, and uses long steps with
    little noise instead of those of exact Langevin dynamics.
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

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.base != "none" and self.sampler_precision != "float32":
            raise UsageError(
                f"{self.name}: densities of the base need float32; use sampler_precision=float32, or base=none"
            )
