"""Radial flow of all rows or of each class."""

from __future__ import annotations

__all__ = ["RadialFlow"]

from typing import Any

import torch
from torch import Tensor, nn

from featood.flows import FlowDensity, RadialFlows
from featood.flows.radial import SingleRadialFlow
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
    """Score ``-log p(z)`` of a chain of radial layers.

    With `separate`, each class has a chain of its own over rows that are not whitened, as in posterior networks, and
    the density is their mixture by class frequency. It has to learn the scale of the features: on a network for MNIST
    it was 6 points of AUROC below Gaussian classes, on networks for CIFAR-10 up to 2 above.

    A single chain over a single base (``--no-by-class``) gives outliers between the classes lower scores than the
    classes themselves: on 64 features of a ResNet-20 its AUROC was 30 % on standardised features, and 87 % with
    ``--space l2-whiten``.
    """

    separate: bool = option(
        False, "separate layers for each class (if there are labels), instead of shared ones"
    )

    def build_flow(self, size: int, generator: torch.Generator) -> nn.Module:
        """Make the flow."""
        return FlowDensity(size, [SingleRadialFlow(self.layers, size, generator)])

    def build(self, size: int, classes: int, generator: torch.Generator) -> nn.Module:
        """Make the flow, or that of each class and a buffer for the class counts."""
        if not self.separate:
            return super().build(size, classes, generator)
        flows = RadialFlows(classes if self.by_class else 1, self.layers, size, generator)
        flows.register_buffer("shares", torch.ones(len(flows.centers)))
        return flows

    def initialize(self, model: Any, rows: Tensor, labels: Tensor) -> None:
        """Initialise the flow and its base, or count the rows of each class."""
        if not self.separate:
            return super().initialize(model, rows, labels)
        if self.by_class:
            model.shares.copy_(torch.bincount(labels, minlength=len(model.shares)) / len(labels))

    def losses(
        self, model: Any, rows: Tensor, labels: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Return the mean negative log-density, of a row in its class."""
        if not self.separate:
            return super().losses(model, rows, labels, generator)
        densities = model.log_density(rows)
        own = densities.gather(1, labels[:, None]) if self.by_class else densities
        return {"loss": -own.mean()}

    def score_rows(self, model: Any, rows: Tensor) -> Tensor:
        """Return the negated log-density ``[B]``."""
        if not self.separate:
            return super().score_rows(model, rows)
        return -logsumexp_weighted(model.log_density(rows), model.shares)
