"""Glow of images."""

from __future__ import annotations

__all__ = ["Glow"]

import torch

from featood.extractors.models.flow_model import FlowModel
from featood.extractors.models.registry import register
from featood.flows import FlowDensity, image_glow
from featood.options import option


@register(
    "glow",
    title="Glow",
    paper="Kingma and Dhariwal, Glow: Generative Flow with Invertible 1x1 Convolutions, NeurIPS",
    year=2018,
    url="https://arxiv.org/abs/1807.03039",
    needs=(),
)
class Glow(FlowModel):
    """Learn the density of images by a Glow of several levels.

    The defaults are small. Published for CIFAR-10: ``--levels 3 --steps 32 --width 512``.
    """

    levels: int = option(2, "levels; on each, images are halved", low=1)
    steps: int = option(8, "steps on each level", low=1)
    width: int = option(64, "channels of the network of a coupling", low=1)

    def flow(self, shape: tuple[int, int, int]) -> FlowDensity:
        """Return the flow."""
        return image_glow(shape, self.levels, self.steps, self.width, torch.default_generator)
