"""Noise-contrastive estimation."""

from __future__ import annotations

__all__ = ["NoiseContrastive"]

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from featood.energies import GaussianNoise, NoiseContrastiveObjective, TiltedGaussian, UniformNoise
from featood.heads.base.feature_head import space_option
from featood.heads.energies._energy_head import EnergyHead, EnergyNet
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

    With normal noise, the network models only the difference from the energy of the noise, so far from the data, where
    there are neither features nor noise samples, the energy is that of the noise; in the code of the thesis the network
    models the whole energy.
    """

    space: str = space_option("l2-standardize")

    testing_options: ClassVar[Mapping[str, Any]] = {
        **EnergyHead.testing_options,
        "epochs": 10,
        "width": 64,
        "lr": 1e-2,
    }

    def build(self, size: int, classes: int, generator: torch.Generator) -> nn.Module:
        """Make the perceptron; with normal noise, it is added to the energy of the noise."""
        net = self.mlp(size, self.outputs(classes), generator)
        return TiltedGaussian(net, size) if self.noise == "gaussian" else EnergyNet(net)

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
