"""Flow of dense layers."""

from __future__ import annotations

__all__ = ["ApproximateFlow"]

from typing import Any

import torch
from torch import Tensor, nn

from featood.flows import approximate
from featood.heads.flows._flow_head import FlowHead
from featood.heads.registry import register
from featood.options import option


@register(
    "approximate-flow",
    title="Flow of dense layers",
    paper="Gresele et al., Relative gradient optimization of the Jacobian term in unsupervised deep learning, "
    "NeurIPS",
    year=2020,
    url="https://arxiv.org/abs/2006.15090",
    needs=("features",),
)
class ApproximateFlow(FlowHead):
    """Score ``-log p(z)`` of a flow of leaky ReLUs and linear layers that are orthogonal or products of such.

    For the kinds ``orthogonal`` and ``reparameterized`` a penalty enforces orthogonality, and training uses the
    determinants of exactly orthogonal matrices. Scores and validation always use the exact determinants.
    """

    kind: str = option(
        "svd",
        "how matrices are kept orthogonal: by a penalty (the first two), reflections, or the matrix exponential (slow)",
        choices=approximate.KINDS,
    )
    penalty: float = option(
        1.0, "weight of the orthogonality penalty; at least 0.5 bounds the error of the approximation", low=0
    )

    def build_flow(self, size: int, generator: torch.Generator) -> nn.Module:
        """Make the flow."""
        return approximate.ApproximateFlow(size, self.layers, self.kind, generator)

    def losses(
        self, model: Any, rows: Tensor, labels: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Return the mean negative log-density, in training with the penalty added."""
        parts = super().losses(model, rows, labels, generator)
        if not model.training:
            return parts
        penalty = (model.flow if self.by_class else model).penalty()
        return {"loss": parts["loss"] + self.penalty * penalty, "penalty": penalty}
