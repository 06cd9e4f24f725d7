"""A deep ensemble of perceptrons on the features."""

from __future__ import annotations

__all__ = ["EnsembleMLP", "StackedLinear"]

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from featood.heads.ensembles._trained_draws_head import TrainedDrawsHead
from featood.heads.registry import register
from featood.options import option


class StackedLinear(nn.Module):
    """One linear layer of M networks, evaluated together: ``[B, in]`` or ``[M, B, in]`` to ``[M, B, out]``."""

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.stack([layer.weight.detach().T for layer in layers]))
        self.bias = nn.Parameter(torch.stack([layer.bias.detach()[None] for layer in layers]))

    def forward(self, rows: Tensor) -> Tensor:
        """Multiply the rows of each network by its matrix, and add its bias."""
        return rows @ self.weight + self.bias


@register(
    "ensemble-mlp",
    title="Deep ensemble on features",
    paper="Lakshminarayanan et al., Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles, "
    "NeurIPS",
    year=2017,
    url="https://arxiv.org/abs/1612.01474",
    needs=("features", "labels"),
)
class EnsembleMLP(TrainedDrawsHead):
    """Score the uncertainty of the mean prediction of several perceptrons trained on the features.

    The perceptrons have different initial weights, see the same batches and are trained independently.
    """

    members: int = option(5, "perceptrons", low=2)

    def build(self, size: int, classes: int, generator: torch.Generator) -> nn.Sequential:
        """Make the perceptrons as a sequence of stacked layers."""
        members = [self.perceptron(size, classes, generator) for _ in range(self.members)]
        layers = zip(*members, strict=True)
        return nn.Sequential(
            *(StackedLinear(layer) if isinstance(layer[0], nn.Linear) else layer[0] for layer in layers)
        )

    def losses(
        self, model: nn.Sequential, rows: Tensor, labels: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Return the sum of the members' cross-entropies, so that the gradient of each is its own."""
        logits = model(rows)
        loss = F.cross_entropy(logits.flatten(0, 1), labels.repeat(len(logits)), reduction="sum")
        return {"loss": loss / len(labels)}
