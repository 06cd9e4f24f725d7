"""Variational rectified activations: small features are set to zero, large ones clipped."""

from __future__ import annotations

__all__ = ["VRA"]

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from featood.errors import UsageError
from featood.heads.base.fit import State, require_tensors
from featood.heads.base.rows import SelectedRows
from featood.heads.registry import register
from featood.heads.reshaping._reshaping_head import ReshapingHead
from featood.numerics.quantiles import column_quantiles
from featood.options import option


@register(
    "vra",
    title="Variational rectified activations (VRA)",
    paper="Xu et al., VRA: Variational Rectified Activation for Out-of-distribution Detection, NeurIPS",
    year=2023,
    url="https://arxiv.org/abs/2302.11716",
    needs=("features", "classifier"),
)
class VRA(ReshapingHead):
    """Score the logits of z with ``z_i < a_i`` set to 0 and ``z_i > b_i`` to b_i.

    The bounds are quantiles of each unit's activations on the training rows; with ``bounds=values`` they are
    constants shared by all units, as the authors choose them for ImageNet (preset ``imagenet``, found on
    ResNet-50). `gamma` above 0 gives the paper's VRA+, which adds gamma to the activations between the bounds. VRA++,
    which adds a quadratic function of z to the energy, is not implemented.

    The presets have the authors' values of VRA for each network, except that the authors apply the ODIN score on
    CIFAR-100 and the default here is always the energy. OpenOOD and pytorch-ood use this name for a different method,
    which also clips from below; OpenOOD uses quantiles over all units together.
    """

    lower: float = option(0.6, "bound a: a quantile of each unit's training activations, or a value")
    upper: float = option(0.9, "bound b: a quantile of each unit's training activations, or a value")
    gamma: float = option(0.0, "constant that VRA+ adds to activations between a and b", low=0)
    bounds: str = option("quantiles", "meaning of lower and upper", choices=("quantiles", "values"))

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "cifar10": {"lower": 0.6, "upper": 0.9},
        "cifar100": {"lower": 0.6, "upper": 0.95},
        "imagenet": {"lower": 0.5, "upper": 1.0, "bounds": "values"},
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.lower <= self.upper:
            raise UsageError(f"vra: --lower {self.lower} is above --upper {self.upper}")
        if self.bounds == "quantiles" and not 0 <= self.lower <= self.upper <= 1:
            raise UsageError(
                f"vra: quantiles lie in [0, 1], not {self.lower} and {self.upper}; use --bounds values for constants"
            )

    def fit_state(self, train: SelectedRows) -> State:
        """Find the bounds, ``[D]`` each."""
        layer = super().fit_state(train)
        both = [self.lower, self.upper]
        if self.bounds == "values":
            size = layer["weight"].shape[1]
            limits = layer["weight"].new_tensor(both)[:, None].repeat(1, size)
        else:
            limits = column_quantiles(lambda: map(self.vectors, train.blocks()), both).float()
        return {"lower": limits[0], "upper": limits[1], **layer}

    def prepare(self, state: State) -> Any:
        """Pair the tensors with the head that scores the logits."""
        require_tensors(self.name, state, "lower", "upper")
        return super().prepare(state)

    def reshape(self, features: Tensor, fitted: State) -> Tensor:
        """Apply the piecewise function."""
        lower, upper = (fitted[name].to(features.dtype) for name in ("lower", "upper"))
        middle = (features + self.gamma).masked_fill(features < lower, 0)
        return torch.where(features > upper, upper, middle)
