"""Base of heads that train an encoder to a latent space with a growing margin between classes."""

from __future__ import annotations

__all__ = ["LatentHead"]

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from featood.heads.base.perceptron_head import PerceptronHead
from featood.heads.margins._latent_encoder import LatentEncoder
from featood.losses import LatentMargins, distances
from featood.options import option
from featood.training import BalancedBatches


@dataclasses.dataclass(kw_only=True, eq=False)
class LatentHead(LatentMargins, PerceptronHead):
    """Base of heads on a latent space in which every class is a compact cluster; see :class:`LatentMargins`."""

    transient: ClassVar[tuple[str, ...]] = ("centers", "sums", "counts", "step")
    testing_options: ClassVar[Mapping[str, Any]] = {
        "epochs": 6, "width": 16, "depth": 1, "latent": 3, "lr": 1e-2, "margins_epoch": 1, "batch_classes": 5,
        "batch_size": 40,
    }  # fmt: skip

    negative_linear: ClassVar[bool] = False  # type: ignore[misc]  # not an option here: the outputs are not logits
    depth: int = option(2, "hidden layers of the encoder; with 0, mean and log-variance are linear", low=0)
    width: int = option(256, "units of a hidden layer", low=1)
    batch_classes: int = option(10, "classes in a batch", low=2)
    batch_size: int = option(80, "rows in a batch, balanced over its classes", low=2, high=1024)
    opt: str = option("adam", "optimiser; sgd has a Nesterov momentum of 0.9", choices=("adam", "sgd"))
    validation: float = option(0.0, "share of the rows held out to stop early", low=0, high=0.9)

    def build(self, size: int, classes: int, generator: torch.Generator) -> LatentEncoder:
        """Make the encoder."""
        return LatentEncoder(self.mlp(size, 2 * self.latent, generator), self.latent, classes)

    def batches(self, labels: Tensor) -> BalancedBatches:
        """Return batches with an equal number of rows of each of `batch_classes` classes."""
        classes = min(self.batch_classes, len(labels.unique()))
        return BalancedBatches(labels, classes, max(2, self.batch_size // classes), self.seed)

    def initialize(self, model: Any, rows: Tensor, labels: Tensor) -> None:
        """Record the number of steps of an epoch."""
        model.steps_per_epoch = len(self.batches(labels))

    def optimizer(self, model: torch.nn.Module) -> torch.optim.Optimizer:
        """Return the optimiser `opt`."""
        if self.opt == "adam":
            return super().optimizer(model)
        return torch.optim.SGD(
            model.parameters(), lr=self.lr, momentum=0.9, nesterov=True, weight_decay=self.weight_decay
        )

    def losses(
        self, model: Any, rows: Tensor, labels: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Return the loss of this epoch and its terms."""
        margin, weight = self.margin(model.epoch), self.divergence_weight(model.epoch)
        noise = self.draw_noise(len(rows), generator)
        parts, latents = self.latent_losses(
            model.posterior(rows), noise, model.centers, labels, margin, weight
        )
        model.advance(latents, labels)
        return parts

    def validation_loss(self, model: Any, rows: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Return the loss with the final margin, averaged over batches, so that epochs are comparable."""
        starts = range(0, max(1, len(rows) - self.batch_size + 1), self.batch_size)
        batches = [slice(start, start + self.batch_size) for start in starts]
        margin, weight = self.margin(self.epochs), self.kl_weight
        losses = [
            self.latent_losses(
                model.posterior(rows[batch]),
                self.draw_noise(len(rows[batch]), generator),
                model.centers,
                labels[batch],
                margin,
                weight,
            )
            for batch in batches
        ]
        return torch.stack([parts["loss"] for parts, _ in losses]).mean()

    def score_rows(self, model: Any, rows: Tensor) -> Tensor:
        """Return the distance of the latents from the nearest centre ``[B]``; used for validation on outliers only."""
        return distances(model(rows), model.centers).min(1).values
