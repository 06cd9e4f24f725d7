"""Noise-contrastive estimation."""

from __future__ import annotations

__all__ = ["NoiseContrastive"]

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from featood.energies import GaussianNoise, UniformNoise, noise_contrastive
from featood.heads.energies.energy_head import EnergyHead
from featood.heads.registry import option, register


@register(
    "nce",
    title="Energy by noise-contrastive estimation",
    paper="Gutmann and Hyvärinen, Noise-contrastive estimation: A new estimation principle for unnormalized "
    "statistical models, AISTATS",
    year=2010,
    url="https://proceedings.mlr.press/v9/gutmann10a.html",
    needs=("features",),
)
class NoiseContrastive(EnergyHead):
    """Score the energy of a network that learnt the log-density of the features by telling them from noise."""

    testing_options: ClassVar[Mapping[str, Any]] = {
        **EnergyHead.testing_options,
        "epochs": 40,
        "width": 64,
        "lr": 1e-2,
    }

    noise: str = option(
        "gaussian",
        "normal with the features' mean and covariance, or uniform on their box",
        choices=("gaussian", "uniform"),
    )

    def initialize(self, model: Any, rows: Tensor, labels: Tensor) -> None:
        """Fit the noise; it follows from the rows, so no checkpoint needs it."""
        model.noise = (GaussianNoise if self.noise == "gaussian" else UniformNoise).of(rows)

    def losses(
        self, model: Any, rows: Tensor, labels: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Tell rows from noise."""
        return noise_contrastive(model.energy, rows, model.noise, generator)
