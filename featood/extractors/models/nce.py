"""Energies that tell images from noise."""

from __future__ import annotations

__all__ = ["NoiseContrastive"]

import itertools
import math
from collections.abc import Iterable, Mapping
from typing import ClassVar

import torch
from torch import nn

from featood.energies import GaussianNoise, NoiseContrastiveObjective, TiltedGaussian
from featood.extractors.models.energy_model import EnergyModel
from featood.extractors.models.model import ImageBatch, Setup
from featood.extractors.models.network import TrainableNet
from featood.extractors.models.registry import register
from featood.options import option
from featood.training.loop import Losses

MOST_BATCHES = 300
"""Batches of images to which the noise is fitted, the first ones."""


@register(
    "nce",
    title="Energy by noise-contrastive estimation",
    paper="Gutmann and Hyvärinen, Noise-contrastive estimation: A new estimation principle for unnormalized "
    "statistical models, AISTATS",
    year=2010,
    url="https://proceedings.mlr.press/v9/gutmann10a.html",
    needs=(),
)
class NoiseContrastive(NoiseContrastiveObjective, EnergyModel):
    """Learn an energy that tells images from normal noise with their mean and covariance.

    The network models only the difference from the energy of the noise, which is added to it, so far from the images
    the energy is that of the noise; in the code of the thesis the network models the whole energy.
    """

    noise: ClassVar[str] = "gaussian"  # type: ignore[misc]  # uniform noise is told from images at a glance

    ridge: float = option(
        1e-3, "smallest ridge on the covariance of the noise, relative to its mean variance", low=0, high=1
    )

    def around(self, net: nn.Module, setup: Setup) -> nn.Module:
        """Add the noise's energy to the network's."""
        return TiltedGaussian(net, math.prod(setup.shape))

    def prepare(self, net: TrainableNet, batches: Iterable[ImageBatch]) -> None:
        """Fit the noise to the first images."""
        found = [batch.images.flatten(1) for batch in itertools.islice(batches, MOST_BATCHES)]
        assert isinstance(net.body, TiltedGaussian)
        net.body.tilt(GaussianNoise.of(torch.cat(found), self.ridge).whitening)

    def losses(self, net: TrainableNet, batch: ImageBatch) -> Losses:
        """Return the loss of distinguishing images from noise."""
        images, generator = self.noisy(batch), batch.generator
        parts: Mapping[str, object] = {"noise": net.body.noise}
        return self.energy_losses(net.body, parts, images, batch.labels, generator)
