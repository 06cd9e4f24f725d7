"""Energies that tell images from draws of a flow."""

from __future__ import annotations

__all__ = ["FlowContrastive"]

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from featood.energies import FlowContrastiveObjective
from featood.extractors.models.between import SAMPLES, between
from featood.extractors.models.energy_model import EnergyModel
from featood.extractors.models.registry import register
from featood.flows import image_glow
from featood.options import option


@register(
    "flow-nce",
    title="Energy by flow-contrastive estimation",
    paper="Gao et al., Flow Contrastive Estimation of Energy-Based Models, CVPR",
    year=2020,
    url="https://arxiv.org/abs/1912.00589",
    needs=(),
)
class FlowContrastive(FlowContrastiveObjective, EnergyModel):
    """Learn an energy that tells images from draws of a Glow, and the Glow to resemble the images, in turns.

    Each update is of one of the two: of the flow after a batch on which the energy was more accurate than `threshold`,
    otherwise of the energy. The flow has a learning rate of its own (``--lr-of parts.flow=1e-3``). Images have noise,
    as the densities of images with whole levels are not bounded.
    """

    training: ClassVar[Mapping[str, Any]] = {**EnergyModel.training, "lr_of": ("parts.flow=1e-3",)}
    levels: int = option(2, "levels of the flow; on each, images are halved", low=1)
    steps: int = option(4, "steps of the flow on each level", low=1)
    width: int = option(32, "channels of the networks of the flow", low=1)

    def make_flow(self, shape: tuple[int, ...], generator: torch.Generator) -> nn.Module:
        """Return a Glow of images."""
        return image_glow(shape, self.levels, self.steps, self.width, generator)  # type: ignore[arg-type]

    def pictures(self, net: Any, images: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Return draws of the flow, and images of latents between those of the images."""
        flow = net.parts["flow"]
        return {
            "samples": flow.sample(SAMPLES, generator),
            "interpolations": flow.inverse(between(flow(images)[0])),
        }
