"""Invertible residual network."""

from __future__ import annotations

__all__ = ["IResNet"]

from typing import ClassVar

import torch
from torch import nn

from featood.flows import ResidualFlow
from featood.heads.flows._flow_head import NetworkFlowHead
from featood.heads.registry import register
from featood.options import option


@register(
    "iresnet",
    title="Invertible residual network",
    paper="Behrmann et al., Invertible Residual Networks, ICML",
    year=2019,
    url="https://arxiv.org/abs/1811.00995",
    needs=("features",),
)
class IResNet(NetworkFlowHead):
    """Score ``-log p(z)`` of residual blocks with a Lipschitz constant below 1.

    In training with more than eight features and units, where exact determinants are slow, they are estimated; scores
    are always exact.
    """

    estimates: ClassVar[bool] = True

    width: int = option(128, "units of a hidden layer", low=1)
    activation: ClassVar[str] = "elu"  # type: ignore[misc]  # not an option here: it has to be smooth and 1-Lipschitz

    bound: float = option(0.9, "largest spectral norm of each linear layer", low=0.01, high=0.99)
    terms: int = option(5, "terms of the series that estimates a determinant in training", low=1)
    roulette: bool = option(True, "add a random number of terms, which makes the estimate unbiased")

    def build_flow(self, size: int, generator: torch.Generator) -> nn.Module:
        """Make the flow."""
        return ResidualFlow(
            size,
            self.layers,
            self.width,
            self.depth,
            bound=self.bound,
            terms=self.terms,
            roulette=self.roulette,
            generator=generator,
        )
