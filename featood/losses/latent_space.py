"""Latent space in which every class is a small ball far from the others, and the loss that shapes it."""

from __future__ import annotations

__all__ = ["FIRST_MARGIN", "LatentMargins", "LatentSpace"]

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from featood.losses.distances import class_means
from featood.losses.margins import latent_divergence, triplet_margin
from featood.options import option

FIRST_MARGIN = 0.15


class LatentSpace(nn.Module):
    """Posterior of the latents of each row, and the class means of the latents in the previous epoch.

    Parameters
    ----------
    encoder : Module
        From rows ``[B, D]`` to ``[B, 2 * latent]``: means and log-variances.
    latent, classes : int
        Latent size and number of classes.
    """

    centers: Tensor
    sums: Tensor
    counts: Tensor

    def __init__(self, encoder: nn.Module, latent: int, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.register_buffer("centers", torch.zeros(classes, latent))
        self.register_buffer("sums", torch.zeros(classes, latent))
        self.register_buffer("counts", torch.zeros(classes))

    def forward(self, rows: Tensor) -> Tensor:
        """Return the means ``[B, latent]``."""
        return self.posterior(rows)[0]

    def posterior(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return means and log-variances ``[B, latent]``."""
        means, log_variances = self.encoder(rows).chunk(2, 1)
        return means, log_variances

    @torch.no_grad()
    def follow(self, latents: Tensor, labels: Tensor, ends_epoch: bool) -> None:
        """Accumulate the latents ``[B, latent]`` of a step; at the end of an epoch, set the centres to their means."""
        means, count = class_means(latents, labels, len(self.centers))
        self.sums += means * count[:, None]
        self.counts += count
        if ends_epoch:
            seen = self.counts > 0
            self.centers[seen] = self.sums[seen] / self.counts[seen, None]
            self.sums.zero_()
            self.counts.zero_()


@dataclasses.dataclass(kw_only=True, eq=False)
class LatentMargins:
    """Options of the loss of a latent space, and the loss.

    It pulls samples of the posteriors towards the mean of the latents of their class in the previous epoch
    (Kullback-Leibler term), closer to rows of the same class than to others (triplet term), and keeps them at a margin
    from other classes, which grows from epoch to epoch.

    References
    ----------
    Dinari and Freifeld, Variational- and Metric-based Deep Latent Space for Out-of-Distribution Detection, UAI 2022.
    """

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

    def margin(self, epoch: int) -> float:
        """Return the margin between classes in an epoch, counted from 0."""
        grown = FIRST_MARGIN + self.margin_jumps * max(0, epoch - self.margins_epoch + 1)
        return min(grown, self.margin_max_distance)

    def divergence_weight(self, epoch: int) -> float:
        """Return the weight of the Kullback-Leibler term in an epoch, counted from 0."""
        return self.kl_weight if epoch >= self.generation_epoch else 0.0

    def draw_noise(self, rows: int, generator: torch.Generator) -> Tensor:
        """Draw standard normal noise for the latents of a batch ``[B, latent]``."""
        return torch.randn(rows, self.latent, generator=generator, device=generator.device)

    def latent_losses(
        self,
        posterior: tuple[Tensor, Tensor],
        noise: Tensor,
        centers: Tensor,
        labels: Tensor,
        margin: float,
        weight: float,
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Sample the latents, and compute their loss.

        Parameters
        ----------
        posterior : (Tensor, Tensor)
            Means and log-variances ``[B, latent]``.
        noise : Tensor
            Of the samples ``[B, latent]``, in standard deviations.
        centers : Tensor
            Of the classes ``[C, latent]``.
        labels : Tensor
            ``[B]``.
        margin, weight : float
            Margin between classes, and weight of the Kullback-Leibler term.

        Returns
        -------
        losses : dict of str to Tensor
            ``loss`` and its terms ``triplet`` and ``divergence``.
        latents : Tensor
            The samples ``[B, latent]``, without a gradient.
        """
        means, log_variances = posterior
        latents = means + (0.5 * log_variances).exp() * noise.to(means)
        compared = F.normalize(latents) if self.normalize_embeddings else latents
        triplet = triplet_margin(compared, labels, self.slack, margin)
        divergence = latent_divergence(latents, means, log_variances, centers, labels)
        loss = triplet + weight * divergence
        return {"loss": loss, "triplet": triplet, "divergence": divergence}, latents.detach()
