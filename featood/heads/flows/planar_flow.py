"""Planar flow."""

from __future__ import annotations

__all__ = ["PlanarFlow"]

import torch
from torch import nn

from featood.flows import FlowDensity, planar
from featood.heads.flows._flow_head import FlowHead
from featood.heads.registry import register


@register(
    "planar-flow",
    title="Planar flow",
    paper="Rezende and Mohamed, Variational Inference with Normalizing Flows, ICML",
    year=2015,
    url="https://arxiv.org/abs/1505.05770",
    needs=("features",),
)
class PlanarFlow(FlowHead):
    """Score ``-log p(z)`` of a chain of planar layers."""

    def build_flow(self, size: int, generator: torch.Generator) -> nn.Module:
        """Make the flow."""
        return FlowDensity(size, [planar.PlanarFlow(size, self.layers, generator)])
