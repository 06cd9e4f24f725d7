"""Heads whose network is a perceptron."""

from __future__ import annotations

__all__ = ["PerceptronHead"]

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from featood.heads.base.trained_head import TrainedHead
from featood.nets.mlp import ACTIVATIONS, MLP
from featood.options import option


@dataclasses.dataclass(kw_only=True, eq=False)
class PerceptronHead(TrainedHead):
    """Base of heads that train one or more perceptrons of the same shape."""

    testing_options: ClassVar[Mapping[str, Any]] = {**TrainedHead.testing_options, "width": 16, "depth": 2}

    depth: int = option(5, "hidden layers", low=0)
    width: int = option(100, "units of a hidden layer", low=1)
    activation: str = option("silu", "activation function", choices=tuple(ACTIVATIONS))
    lipschitz: float = option(0.0, "largest spectral norm of each layer; 0 for no limit", low=0)
    negative_linear: bool = option(
        False,
        "negative weights in the last layer, so that logits decrease without bound far from the data (needs relu or "
        "softplus)",
    )

    def mlp(self, size: int, outputs: int, generator: torch.Generator) -> MLP:
        """Make a perceptron with the head's options, ``[B, size]`` to ``[B, outputs]``."""
        hidden = [self.width] * self.depth
        return MLP(size, hidden, outputs, self.activation, generator, self.lipschitz, self.negative_linear)
