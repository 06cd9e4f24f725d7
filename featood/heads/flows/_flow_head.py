"""Base class of the flow heads: maximum likelihood, and the negated log-density as the score."""

from __future__ import annotations

__all__ = ["FlowHead", "NetworkFlowHead"]

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from featood.flows import ClassMixture
from featood.heads.base.feature_head import space_option
from featood.heads.base.trained_head import TrainedHead
from featood.options import option

INITIAL_ROWS = 4096


@dataclasses.dataclass(kw_only=True, eq=False)
class FlowHead(TrainedHead):
    """A head that scores ``-log p(z)``; a subclass builds the flow.

    A density of all rows that ignores the classes is no better on features of a classifier than a single Gaussian. So,
    by default, the base is a mixture with one component for each class, and training starts near Gaussian classes with
    one covariance, to which a ridge of 1e-2 of its mean variance is added. Without `by_class`, use the space
    ``l2-whiten`` for such features.
    """

    testing_options: ClassVar[Mapping[str, Any]] = {"epochs": 6, "batch_size": 64, "layers": 3}

    estimates: ClassVar[bool] = False
    """Whether training uses estimated determinants."""

    space: str = space_option("l2")
    by_class: bool = option(
        True,
        "let the base have one normal distribution for each class (if there are labels), instead of a single one",
    )
    layers: int = option(20, "layers of the flow", low=1)
    lr: float = option(1e-2, "initial learning rate", low=0)

    def build_flow(self, size: int, generator: torch.Generator) -> nn.Module:
        """Make a flow of `size` features."""
        raise NotImplementedError

    def build(self, size: int, classes: int, generator: torch.Generator) -> nn.Module:
        """Make the flow, and the classes of its base."""
        flow = self.build_flow(size, generator)
        return ClassMixture(flow, size, classes) if self.by_class else flow

    def initialize(self, model: Any, rows: Tensor, labels: Tensor) -> None:
        """Initialise the data-dependent layers, and the classes."""
        if self.by_class:
            model.initialize(rows, labels)
        elif callable(start := getattr(model, "initialize", None)):
            start(rows[:: max(1, len(rows) // INITIAL_ROWS)])

    def losses(
        self, model: Any, rows: Tensor, labels: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Return the mean negative log-density, of a row in its class."""
        estimated = [generator] if self.estimates and model.training else []
        if not self.by_class:
            return {"loss": -model.log_density(rows, *estimated).mean()}
        return {"loss": -model.log_densities(rows, *estimated).gather(1, labels[:, None]).mean()}

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
