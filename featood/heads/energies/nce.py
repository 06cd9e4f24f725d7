"""Noise-contrastive estimation."""

from __future__ import annotations

__all__ = ["NoiseContrastive", "TiltedNet"]

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from featood.energies import GaussianNoise, NoiseContrastiveObjective, UniformNoise, free_energy
from featood.heads.energies._energy_head import EnergyHead, EnergyNet
from featood.heads.registry import register
from featood.numerics.gaussian import Whitening


class TiltedNet(EnergyNet):
    """A network added to the energy of a Gaussian, which is part of its state."""

    def __init__(self, net: nn.Module, size: int) -> None:
        super().__init__(net)
        for name, shape in (("center", (size,)), ("matrix", (size, size)), ("log_det", ()), ("ridge", ())):
            self.register_buffer(name, torch.zeros(shape, dtype=torch.float64))

    def tilt(self, gaussian: Whitening) -> None:
        """Set the Gaussian."""
        for name, value in gaussian._asdict().items():
            self.get_buffer(name).copy_(value)

    @property
    def noise(self) -> GaussianNoise:
        """The Gaussian."""
        return GaussianNoise(Whitening(*(self.get_buffer(name) for name in Whitening._fields)))

    def forward(self, rows: Tensor) -> Tensor:
        """Return logits ``[B, 1]``: the negated sum of both energies."""
        return self.net(rows) + self.noise.log_density(rows)[:, None]

    def energy(self, rows: Tensor) -> Tensor:
        """Return the sum of both energies ``[B]``."""
        return free_energy(self)(rows)


@register(
    "nce",
    title="Energy by noise-contrastive estimation",
    paper="Gutmann and Hyvärinen, Noise-contrastive estimation: A new estimation principle for unnormalized "
    "statistical models, AISTATS",
    year=2010,
    url="https://proceedings.mlr.press/v9/gutmann10a.html",
    needs=("features",),
)
class NoiseContrastive(NoiseContrastiveObjective, EnergyHead):
    """Score the energy of a network trained to distinguish the features from noise.

    With normal noise, the network models only the difference from the energy of the noise, so far from the data, where
    there are neither features nor noise samples, the energy is that of the noise; in the code of the thesis the network
    models the whole energy.
    """

    testing_options: ClassVar[Mapping[str, Any]] = {
        **EnergyHead.testing_options,
        "epochs": 40,
        "width": 64,
        "lr": 1e-2,
    }

    def build(self, size: int, classes: int, generator: torch.Generator) -> EnergyNet:
        """Make the perceptron; with normal noise, it is added to the energy of the noise."""
        net = self.mlp(size, self.outputs(classes), generator)
        return TiltedNet(net, size) if self.noise == "gaussian" else EnergyNet(net)

    def initialize(self, model: Any, rows: Tensor, labels: Tensor) -> None:
        """Fit the noise; it is determined by the rows, so checkpoints need not store it."""
        if self.noise == "gaussian":
            model.tilt(GaussianNoise.of(rows, self.ridge).whitening)
        else:
            model.noise = UniformNoise.of(rows)

    def losses(
        self, model: Any, rows: Tensor, labels: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Return the loss of distinguishing rows from noise."""
        return self.energy_losses(model, {"noise": model.noise}, rows, labels, generator)
