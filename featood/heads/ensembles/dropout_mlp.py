"""Monte Carlo dropout in a perceptron on the features."""

from __future__ import annotations

__all__ = ["DropoutMLP", "DropoutNet"]

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from featood.heads.ensembles._draws_head import MEASURES
from featood.heads.ensembles._trained_draws_head import TrainedDrawsHead
from featood.heads.registry import register
from featood.options import option


class DropoutNet(nn.Module):
    """A perceptron with dropout on its hidden units; evaluation uses masks that were drawn once.

    A mask is 0 for dropped units and scales the kept ones. As the masks are the same for every row, the
    predictions of a row do not depend on the other rows of the batch.

    Parameters
    ----------
    layers : Sequential
        Linear layers, with an activation after all but the last; all hidden layers have the same width.
    rate : float
        Probability that a unit is dropped.
    passes : int
        Number of masks used in evaluation.
    generator : torch.Generator
        Source of the masks.
    """

    masks: Tensor

    def __init__(self, layers: nn.Sequential, rate: float, passes: int, generator: torch.Generator) -> None:
        super().__init__()
        self.layers, self.rate = layers, rate
        self.depth, self.width = len(layers) // 2, layers[0].get_parameter("weight").shape[0]
        self.register_buffer("masks", self.draw(passes, generator)[:, :, None])

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw masks ``[depth, count, width]``."""
        shape = self.depth, count, self.width
        stay = torch.rand(shape, generator=generator, device=generator.device) >= self.rate
        return stay.float() / (1 - self.rate)

    def masked(self, rows: Tensor, masks: Tensor | None) -> Tensor:
        """Map rows ``[B, D]`` to logits; `masks` broadcast with ``[depth, B, width]``, None drops nothing."""
        for number, layer in enumerate(self.layers):
            rows = layer(rows)
            if number % 2 and masks is not None:
                rows = rows * masks[number // 2]
        return rows

    def forward(self, rows: Tensor) -> Tensor:
        """Map rows ``[B, D]`` to the logits of all passes ``[S, B, C]``."""
        return self.masked(rows, self.masks)


@register(
    "dropout-mlp",
    title="Monte Carlo dropout on features",
    paper="Gal and Ghahramani, Dropout as a Bayesian Approximation: Representing Model Uncertainty in Deep Learning, "
    "ICML",
    year=2016,
    url="https://arxiv.org/abs/1506.02142",
    needs=("features", "labels"),
)
class DropoutMLP(TrainedDrawsHead):
    """Score the disagreement of several passes with dropout through a perceptron trained on the features."""

    which: str = option(
        "variance",
        "variance of the probabilities, entropy of their mean, its epistemic part, or the negated largest mean",
        choices=tuple(MEASURES),
    )
    dropout: float = option(0.3, "probability that a hidden unit is dropped", low=0.01, high=0.95)
    passes: int = option(10, "number of passes when scoring", low=2)
    weight_decay: float = option(5e-4, "decoupled weight decay", low=0)

    def build(self, size: int, classes: int, generator: torch.Generator) -> DropoutNet:
        """Make the perceptron and draw the masks of the passes."""
        return DropoutNet(self.perceptron(size, classes, generator), self.dropout, self.passes, generator)

    def losses(
        self, model: DropoutNet, rows: Tensor, labels: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Return the cross-entropy, with new masks for each training row and without dropout for held-out rows."""
        masks = model.draw(len(rows), generator).to(rows.device) if model.training else None
        return {"loss": F.cross_entropy(model.masked(rows, masks), labels)}
