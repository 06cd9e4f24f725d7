"""RealNVP on feature vectors."""

from __future__ import annotations

__all__ = ["RealNVP"]

import torch
from torch import nn

from featood.flows import realnvp
from featood.heads.flows._flow_head import NetworkFlowHead
from featood.heads.registry import register
from featood.options import option


@register(
    "realnvp",
    title="RealNVP",
    paper="Dinh et al., Density Estimation Using Real NVP, ICLR",
    year=2017,
    url="https://arxiv.org/abs/1605.08803",
    needs=("features",),
)
class RealNVP(NetworkFlowHead):
    """Score ``-log p(z)`` of a chain of affine couplings."""

    lr: float = option(3e-4, "initial learning rate", low=0)

    def build_flow(self, size: int, generator: torch.Generator) -> nn.Module:
        """Make the flow, initialised as the identity."""
        return realnvp(size, self.layers, self.hidden, self.activation, generator)
