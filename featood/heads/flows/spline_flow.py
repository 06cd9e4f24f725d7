"""Neural spline flow."""

from __future__ import annotations

__all__ = ["SplineFlow"]

import torch
from torch import nn

from featood.flows import AutoregressiveFlow
from featood.heads.flows._flow_head import NetworkFlowHead
from featood.heads.registry import register
from featood.options import option


@register(
    "spline-flow",
    title="Neural spline flow",
    paper="Durkan et al., Neural Spline Flows, NeurIPS",
    year=2019,
    url="https://arxiv.org/abs/1906.04032",
    needs=("features",),
)
class SplineFlow(NetworkFlowHead):
    """Score ``-log p(z)`` of autoregressive transformations by rational-quadratic splines."""

    width: int = option(128, "units of a hidden layer", low=1)
    layers: int = option(3, "transformations", low=1)
    bins: int = option(8, "bins of a spline, within five standard deviations", low=2)

    def build_flow(self, size: int, generator: torch.Generator) -> nn.Module:
        """Make the flow."""
        return AutoregressiveFlow(size, self.layers, self.hidden, self.activation, self.bins, generator)
