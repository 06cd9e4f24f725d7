"""Energies that tell each image from noisy copies of it."""

from __future__ import annotations

__all__ = ["ConditionalNoiseContrastive"]

from featood.energies import ConditionalNoiseObjective
from featood.extractors.models.energy_model import EnergyModel
from featood.extractors.models.registry import register
from featood.options import option


@register(
    "conditional-nce",
    title="Energy by conditional noise-contrastive estimation",
    paper="Ceylan and Gutmann, Conditional Noise-Contrastive Estimation of Unnormalised Models, ICML",
    year=2018,
    url="https://arxiv.org/abs/1806.03664",
    needs=(),
)
class ConditionalNoiseContrastive(ConditionalNoiseObjective, EnergyModel):
    """Learn an energy of images that is lower at an image than at noisy copies of it.

    The standard deviation of the noise of each copy is drawn between `spread`, the only one of the published code, and
    `widest`.
    """

    image_noise: float = option(
        0.0, "standard deviation of the normal noise added to images, whose pixels are in [-1, 1]", low=0
    )
    draws: int = option(1, "noisy copies of each image", low=1)
