"""Heads that train an encoder to a latent space in which classes keep a growing margin."""

from __future__ import annotations

__all__ = ["LatentHead"]

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from featood.heads.base.declaration import option
from featood.heads.base.perceptron_head import PerceptronHead
from featood.heads.margins._latent_encoder import LatentEncoder
from featood.losses.distances import distances
from featood.losses.margins import latent_divergence, triplet_margin
from featood.training import BalancedBatches

FIRST_MARGIN = 0.15


@dataclasses.dataclass(kw_only=True, eq=False)
class LatentHead(PerceptronHead):
    """Base of heads on latents in which every class is a small ball.

    The encoder gives each row a normal posterior. A sample of it is to lie in the ball of its class around the mean
    of the class's latents in the epoch before (Kullback-Leibler term), nearer to rows of its class than to others
    (triplet term), and a margin away from those, which grows from epoch to epoch.
    """

    transient: ClassVar[tuple[str, ...]] = ("centers", "sums", "counts", "step")
    testing_options: ClassVar[Mapping[str, Any]] = {
        "epochs": 6, "width": 16, "depth": 1, "latent": 3, "lr": 1e-2, "margins_epoch": 1, "batch_classes": 5,
        "batch_size": 40,
    }  # fmt: skip

    negative_linear: ClassVar[bool] = False  # type: ignore[misc]  # no option any more: its outputs are no logits
    depth: int = option(2, "hidden layers of the encoder; none makes both its maps linear", low=0)
    width: int = option(256, "units of a hidden layer", low=1)
    latent: int = option(32, "size of the latent space", low=1)
    slack: float = option(
        0.1, "how much farther rows of other classes have to be than those of the same", low=0
    )
    margins_epoch: int = option(10, "first epoch in which the margin grows", low=0)
    margin_jumps: float = option(1.0, "by how much the margin grows in an epoch", low=0)
    margin_max_distance: float = option(32.0, "largest margin", low=FIRST_MARGIN)
    normalize_embeddings: bool = option(
        False,
        "compare latents scaled to length 1, as the published code; no margin beyond 2 can be kept then",
    )
    kl_weight: float = option(0.1, "weight of the divergence from the class's ball", low=0)
    generation_epoch: int = option(0, "first epoch with that term", low=0)
    batch_classes: int = option(10, "classes in a batch", low=2)
    batch_size: int = option(80, "rows in a batch, as many of each class", low=2, high=1024)
    opt: str = option("adam", "optimiser; sgd with a Nesterov momentum of 0.9", choices=("adam", "sgd"))
    validation: float = option(0.0, "share of the rows held out to stop early", low=0, high=0.9)

    def build(self, size: int, classes: int, generator: torch.Generator) -> LatentEncoder:
        """Make the encoder."""
        return LatentEncoder(self.mlp(size, 2 * self.latent, generator), self.latent, classes)

    def batches(self, labels: Tensor) -> BalancedBatches:
        """Return batches with as many rows of each of `batch_classes` classes."""
        classes = min(self.batch_classes, len(labels.unique()))
        return BalancedBatches(labels, classes, max(2, self.batch_size // classes), self.seed)

    def initialize(self, model: Any, rows: Tensor, labels: Tensor) -> None:
        """Take down how long an epoch is."""
        model.steps_per_epoch = len(self.batches(labels))

    def optimizer(self, model: torch.nn.Module) -> torch.optim.Optimizer:
        """Return the optimiser asked for."""
        if self.opt == "adam":
            return super().optimizer(model)
        return torch.optim.SGD(
            model.parameters(), lr=self.lr, momentum=0.9, nesterov=True, weight_decay=self.weight_decay
        )

    def margin(self, epoch: int) -> float:
        """Return the distance that classes have to keep in an epoch, counted from 0."""
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
        """Return the loss with the last margin whatever the epoch, which would grow with it, averaged over batches."""
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
        """Return the distance of the latents from the nearest centre ``[B]``; only to validate on outliers."""
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
