"""Variational rectified activations: small features to zero, large ones clipped."""

from __future__ import annotations

__all__ = ["VRA"]

import torch
from torch import Tensor

from featood.errors import UsageError
from featood.heads.base import State
from featood.heads.registry import option, register
from featood.heads.reshaping.reshaping_head import ReshapingHead
from featood.heads.rows import SelectedRows
from featood.numerics.quantiles import quantiles


@register(
    "vra",
    title="Variational rectified activations (VRA)",
    paper="Xu et al., VRA: Variational Rectified Activation for Out-of-distribution Detection, NeurIPS",
    year=2023,
    url="https://arxiv.org/abs/2302.11716",
    needs=("features", "classifier"),
)
class VRA(ReshapingHead):
    """Score the logits of z with ``z < a`` set to 0 and ``z > b`` to b; a and b are quantiles of all activations.

    With `gamma` above 0 it is VRA+, which adds gamma to the activations in between. The defaults are the
    authors' for CIFAR-10.
    """

    lower: float = option(0.6, "quantile a of the training activations", low=0, high=1)
    upper: float = option(0.9, "quantile b of the training activations", low=0, high=1)
    gamma: float = option(0.0, "what VRA+ adds to activations between a and b", low=0)

    def fit_state(self, train: SelectedRows) -> State:
        """Find the two quantiles."""
        if self.lower > self.upper:
            raise UsageError(f"vra: --lower {self.lower} is above --upper {self.upper}")
        limits = quantiles(lambda: map(self.vectors, train.blocks()), [self.lower, self.upper])
        return {"limits": torch.tensor(limits), **super().fit_state(train)}

    def reshape(self, features: Tensor, fitted: State) -> Tensor:
        """Apply the piecewise function."""
        lower, upper = fitted["limits"].tolist()
        middle = (features + self.gamma).masked_fill(features < lower, 0)
        return middle.masked_fill(features > upper, upper)
