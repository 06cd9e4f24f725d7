"""Glow on feature vectors."""

from __future__ import annotations

__all__ = ["GlowVector"]

import torch
from torch import nn

from featood.flows import glow
from featood.heads.flows._flow_head import NetworkFlowHead
from featood.heads.registry import register
from featood.options import option


@register(
    "glow-vector",
    title="Glow on vectors",
    paper="Kingma and Dhariwal, Glow: Generative Flow with Invertible 1x1 Convolutions, NeurIPS",
    year=2018,
    url="https://arxiv.org/abs/1807.03039",
    needs=("features",),
)
class GlowVector(NetworkFlowHead):
    """Score ``-log p(z)`` of steps of activation normalisation, invertible matrix and affine coupling.

    The learning rate is warmed up because in several hundred dimensions the first updates at the full rate make the
    matrices diverge.
    """

    warmup: int = option(
        50, "number of updates over which the learning rate rises to its initial value", low=0
    )

    lr: float = option(3e-4, "initial learning rate", low=0)

    def build_flow(self, size: int, generator: torch.Generator) -> nn.Module:
        """Make the flow, initialised as a rotation."""
        return glow(size, self.layers, self.hidden, self.activation, generator)
