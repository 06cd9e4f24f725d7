"""Base of heads that train an encoder to a latent space with a growing margin between classes."""

from __future__ import annotations

__all__ = ["LatentHead"]

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from featood.heads.base.perceptron_head import PerceptronHead
from featood.heads.margins._latent_encoder import LatentEncoder
from featood.losses.distances import distances
from featood.losses.margins import latent_divergence, triplet_margin
from featood.options import option
from featood.training import BalancedBatches

FIRST_MARGIN = 0.15


@dataclasses.dataclass(kw_only=True, eq=False)
class LatentHead(PerceptronHead):
    """Base of heads on a latent space in which every class is a compact cluster.

    The encoder gives each row a normal posterior. The loss pulls its samples towards the mean of the latents of their
    class in the previous epoch (Kullback-Leibler term), closer to rows of the same class than to others (triplet
    term), and keeps them at a margin from other classes, which grows from epoch to epoch.
    """

    transient: ClassVar[tuple[str, ...]] = ("centers", "sums", "counts", "step")
    testing_options: ClassVar[Mapping[str, Any]] = {
        "epochs": 6, "width": 16, "depth": 1, "latent": 3, "lr": 1e-2, "margins_epoch": 1, "batch_classes": 5,
        "batch_size": 40,
    }  # fmt: skip

    negative_linear: ClassVar[bool] = False  # type: ignore[misc]  # not an option here: the outputs are not logits
    depth: int = option(2, "hidden layers of the encoder; with 0, mean and log-variance are linear", low=0)
    width: int = option(256, "units of a hidden layer", low=1)
    latent: int = option(32, "size of the latent space", low=1)
    slack: float = option(
        0.1, "margin of the triplet term between rows of other classes and of the same class", low=0
    )
    margins_epoch: int = option(10, "first epoch in which the margin grows", low=0)
    margin_jumps: float = option(1.0, "growth of the margin per epoch", low=0)
    margin_max_distance: float = option(32.0, "largest margin", low=FIRST_MARGIN)
    normalize_embeddings: bool = option(
        False,
        "normalise latents to unit length, as the published code does; margins beyond 2 are then unattainable",
    )
    kl_weight: float = option(0.1, "weight of the Kullback-Leibler term", low=0)
    generation_epoch: int = option(0, "first epoch with the Kullback-Leibler term", low=0)
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

    def margin(self, epoch: int) -> float:
        """Return the margin between classes in an epoch, counted from 0."""
        grown = FIRST_MARGIN + self.margin_jumps * max(0, epoch - self.margins_epoch + 1)
        return min(grown, self.margin_max_distance)

    def losses(
        self, model: Any, rows: Tensor, labels: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Return the loss of this epoch and its terms."""
        epoch = model.epoch
        weight = self.kl_weight if epoch >= self.generation_epoch else 0.0
        parts, latents = self._terms(model, rows, labels, generator, self.margin(epoch), weight)
        model.follow(latents, labels)
        return parts

    def validation_loss(self, model: Any, rows: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Return the loss with the final margin, averaged over batches, so that epochs are comparable."""
        starts = range(0, max(1, len(rows) - self.batch_size + 1), self.batch_size)
        batches = [slice(start, start + self.batch_size) for start in starts]
        losses = [
            self._terms(
                model, rows[batch], labels[batch], generator, self.margin(self.epochs), self.kl_weight
            )
            for batch in batches
        ]
        return torch.stack([parts["loss"] for parts, _ in losses]).mean()

    def score_rows(self, model: Any, rows: Tensor) -> Tensor:
        """Return the distance of the latents from the nearest centre ``[B]``; used for validation on outliers only."""
        return distances(model(rows), model.centers).min(1).values

    def _terms(
        self,
        model: Any,
        rows: Tensor,
        labels: Tensor,
        generator: torch.Generator,
        margin: float,
        weight: float,
    ) -> tuple[dict[str, Tensor], Tensor]:
        means, log_variances = model.posterior(rows)
        noise = torch.randn(means.shape, generator=generator, device=means.device)
        latents = means + (0.5 * log_variances).exp() * noise
        compared = F.normalize(latents) if self.normalize_embeddings else latents
        triplet = triplet_margin(compared, labels, self.slack, margin)
        divergence = latent_divergence(latents, means, log_variances, model.centers, labels)
        loss = triplet + weight * divergence
        return {"loss": loss, "triplet": triplet, "divergence": divergence}, latents.detach()
