"""Noise-contrastive estimation."""

from __future__ import annotations

__all__ = ["NoiseContrastive"]

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from featood.energies import GaussianNoise, NoiseContrastiveObjective, TiltedGaussian, UniformNoise
from featood.heads.energies._energy_head import PLAIN, EnergyHead
from featood.heads.registry import register


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

    The noise is the distribution of the base, so the energy is normalised, and where there are neither features nor
    noise samples it is that of the noise. In the code of the thesis the network models the whole energy; without a
    base, normal noise has mean and covariance of the rows, and its energy is added to the network's.
    """

    testing_options: ClassVar[Mapping[str, Any]] = {
        **EnergyHead.testing_options,
        "epochs": 10,
        "width": 64,
        "lr": 1e-2,
    }

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"published": {**PLAIN, "noise": "uniform"}}

    def build(self, size: int, classes: int, generator: torch.Generator) -> nn.Module:
        """Make the perceptron, to whose energy that of normal noise is added."""
        if self.base == "none" and self.noise == "gaussian":
            return TiltedGaussian(self.mlp(size, 1, generator), size)
        return super().build(size, classes, generator)

    def start_modules(self, model: Any, rows: Tensor, labels: Tensor) -> None:
        """Fit the noise, unless it is the base; it is determined by the rows, so checkpoints need not store it."""
        if self.noise == "uniform":
            model.noise = UniformNoise.of(rows)
        elif self.base == "none":
            model.tilt(GaussianNoise.of(rows, self.ridge).whitening)

    def losses(
        self, model: Any, rows: Tensor, labels: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Return the loss of distinguishing rows from noise."""
        if self.base == "none" and self.noise == "gaussian":
            return self.energy_losses(model, {"noise": model.noise}, rows, labels, generator)
        noise = model.noise if self.noise == "uniform" else model.net.base
        return self.energy_losses(model.net, {"noise": noise}, rows, labels, generator)
