"""Base of heads that train perceptrons on the features and give several predictions per row."""

from __future__ import annotations

__all__ = ["TrainedDrawsHead"]

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from featood.heads.base.trained_head import TrainedHead, updates_option
from featood.heads.ensembles._draws_head import MEASURES
from featood.nets.mlp import ACTIVATIONS, MLP
from featood.numerics.mixtures import mean_log_probabilities
from featood.options import option


@dataclasses.dataclass(kw_only=True, eq=False)
class TrainedDrawsHead(TrainedHead):
    """Base of the heads whose network maps rows ``[B, D]`` to the logits of S predictions ``[S, B, C]``."""

    testing_options: ClassVar[Mapping[str, Any]] = {
        "epochs": 10, "batch_size": 64, "width": 16, "depth": 1, "lr": 1e-2,
    }  # fmt: skip

    updates: int = updates_option(1000)
    which: str = option(
        "predictive-entropy",
        "entropy of the mean probabilities, its epistemic part, variance, or the negated largest mean probability",
        choices=tuple(MEASURES),
    )
    depth: int = option(2, "hidden layers", low=1)
    width: int = option(100, "units of a hidden layer", low=1)
    activation: str = option("relu", "activation function", choices=tuple(ACTIVATIONS))

    def perceptron(self, size: int, classes: int, generator: torch.Generator) -> MLP:
        """Make a perceptron with the head's depth and width."""
        return MLP(size, [self.width] * self.depth, classes, self.activation, generator)

    def score_rows(self, model: Any, rows: Tensor) -> Tensor:
        """Return the chosen uncertainty ``[B]``."""
        return MEASURES[self.which](model(rows).unbind())

    def classify_rows(self, model: Any, rows: Tensor) -> Tensor:
        """Return the logarithm of the mean probabilities ``[B, C]``."""
        return mean_log_probabilities(model(rows).unbind())
