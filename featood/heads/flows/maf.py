"""Masked autoregressive flow."""

from __future__ import annotations

__all__ = ["MAF"]

import torch
from torch import nn

from featood.flows import AutoregressiveFlow
from featood.heads.flows._flow_head import NetworkFlowHead
from featood.heads.registry import register
from featood.options import option


@register(
    "maf",
    title="Masked autoregressive flow",
    paper="Papamakarios et al., Masked Autoregressive Flow for Density Estimation, NeurIPS",
    year=2017,
    url="https://arxiv.org/abs/1705.07057",
    needs=("features",),
)
class MAF(NetworkFlowHead):
    """Score ``-log p(z)`` of affine autoregressive transformations."""

    layers: int = option(5, "transformations", low=1)

    def build_flow(self, size: int, generator: torch.Generator) -> nn.Module:
        """Make the flow."""
        return AutoregressiveFlow(size, self.layers, self.hidden, self.activation, generator=generator)
