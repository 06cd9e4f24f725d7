"""Radial flow of images."""

from __future__ import annotations

__all__ = ["RadialFlow"]

import math

import torch

from featood.extractors.models.flow_model import FlowModel
from featood.extractors.models.registry import register
from featood.flows import FlowDensity
from featood.flows.coupling import ActNorm
from featood.flows.density import Flatten
from featood.flows.radial import SingleRadialFlow
from featood.options import option


@register(
    "radial-flow",
    title="Radial flow",
    paper="Rezende and Mohamed, Variational Inference with Normalizing Flows, ICML",
    year=2015,
    url="https://arxiv.org/abs/1505.05770",
    needs=(),
)
class RadialFlow(FlowModel):
    """Learn the density of images by a chain of radial layers, on all values as one vector.

    Channels are standardised first, not each pixel, as some pixels are constant in many images.
    """

    layers: int = option(20, "layers of the flow", low=1)

    def flow(self, shape: tuple[int, int, int]) -> FlowDensity:
        """Return the flow."""
        size = math.prod(shape)
        radial = SingleRadialFlow(self.layers, size, torch.default_generator)
        return FlowDensity(size, [ActNorm(shape[0]), Flatten(shape), radial])
