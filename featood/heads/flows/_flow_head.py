"""Base class of the flow heads: maximum likelihood, and the negated log-density as the score."""

from __future__ import annotations

__all__ = ["FlowHead", "NetworkFlowHead"]

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from featood.heads.base.trained_head import TrainedHead
from featood.options import option

INITIAL_ROWS = 4096


@dataclasses.dataclass(kw_only=True, eq=False)
class FlowHead(TrainedHead):
    """A head that scores ``-log p(z)``; a subclass builds the flow."""

    testing_options: ClassVar[Mapping[str, Any]] = {"epochs": 6, "batch_size": 64, "layers": 3}

    layers: int = option(20, "layers of the flow", low=1)
    lr: float = option(1e-2, "initial learning rate", low=0)

    def initialize(self, model: nn.Module, rows: Tensor, labels: Tensor) -> None:
        """Initialise the data-dependent layers."""
        if callable(start := getattr(model, "initialize", None)):
            start(rows[:: max(1, len(rows) // INITIAL_ROWS)])

    def losses(
        self, model: Any, rows: Tensor, labels: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Return the mean negative log-density."""
        return {"loss": -model.log_density(rows).mean()}

    def score_rows(self, model: Any, rows: Tensor) -> Tensor:
        """Return the negated log-density ``[B]``."""
        return -model.log_density(rows)


@dataclasses.dataclass(kw_only=True, eq=False)
class NetworkFlowHead(FlowHead):
    """A flow head with a perceptron in each layer of the flow."""

    testing_options: ClassVar[Mapping[str, Any]] = {
        "epochs": 6, "batch_size": 64, "layers": 2, "width": 16, "depth": 1,
    }  # fmt: skip

    depth: int = option(2, "hidden layers of the network in each layer of the flow", low=1)
    width: int = option(512, "units of a hidden layer", low=1)
    activation: str = option("relu", "activation function", choices=("relu", "elu", "silu", "tanh"))
    layers: int = option(8, "layers of the flow", low=1)
    lr: float = option(1e-3, "initial learning rate", low=0)

    @property
    def hidden(self) -> list[int]:
        """Widths of the hidden layers."""
        return [self.width] * self.depth
