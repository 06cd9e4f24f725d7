"""Radial flow of all rows or of each class."""

from __future__ import annotations

__all__ = ["RadialFlow"]

from typing import Any

import torch
from torch import Tensor, nn

from featood.flows import RadialFlows
from featood.heads.flows._flow_head import FlowHead
from featood.heads.registry import register
from featood.numerics.gaussian import logsumexp_weighted
from featood.options import option


@register(
    "radial-flow",
    title="Radial flow",
    paper="Rezende and Mohamed, Variational Inference with Normalizing Flows, ICML",
    year=2015,
    url="https://arxiv.org/abs/1505.05770",
    needs=("features",),
)
class RadialFlow(FlowHead):
    """Score ``-log p(z)`` of a chain of radial layers, or of a mixture of one chain per class.

    A single chain (``--no-by-class``) gives outliers between the classes lower scores than the classes themselves: on
    64 features of a ResNet-20 its AUROC was 30 % on standardised features, and 87 % with ``--space l2-whiten``.
    """

    by_class: bool = option(True, "fit one flow per class (if there are labels), weighted by class frequency")

    def build(self, size: int, classes: int, generator: torch.Generator) -> nn.Module:
        """Make the flows, and a buffer for the class counts."""
        flows = RadialFlows(classes if self.by_class else 1, self.layers, size, generator)
        flows.register_buffer("shares", torch.ones(len(flows.centers)))
        return flows

    def initialize(self, model: nn.Module, rows: Tensor, labels: Tensor) -> None:
        """Count the rows of each class."""
        if self.by_class:
            shares: Any = model.shares
            shares.copy_(torch.bincount(labels, minlength=len(shares)) / len(labels))

    def losses(
        self, model: Any, rows: Tensor, labels: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Return the mean negative log-density of the rows under the flow of their class."""
        densities = model.log_density(rows)
        own = densities.gather(1, labels[:, None]) if self.by_class else densities
        return {"loss": -own.mean()}

    def score_rows(self, model: Any, rows: Tensor) -> Tensor:
        """Return the negated log-density of the mixture ``[B]``."""
        return -logsumexp_weighted(model.log_density(rows), model.shares)
