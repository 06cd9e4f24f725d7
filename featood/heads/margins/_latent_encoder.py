"""Encoder to a latent space that updates the class means every epoch."""

from __future__ import annotations

__all__ = ["LatentEncoder"]

import torch
from torch import Tensor, nn

from featood.losses.distances import class_means


class LatentEncoder(nn.Module):
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
    step: Tensor

    def __init__(self, encoder: nn.Module, latent: int, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.register_buffer("centers", torch.zeros(classes, latent))
        self.register_buffer("sums", torch.zeros(classes, latent))
        self.register_buffer("counts", torch.zeros(classes))
        self.register_buffer("step", torch.tensor(0))
        self.steps_per_epoch = 1

    def forward(self, rows: Tensor) -> Tensor:
        """Return the means ``[B, latent]``."""
        return self.posterior(rows)[0]

    def posterior(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return means and log-variances ``[B, latent]``."""
        means, log_variances = self.encoder(rows).chunk(2, 1)
        return means, log_variances

    @property
    def epoch(self) -> int:
        """Number of completed epochs."""
        return int(self.step) // self.steps_per_epoch

    @torch.no_grad()
    def follow(self, latents: Tensor, labels: Tensor) -> None:
        """Accumulate the latents ``[B, latent]`` of a step; at the end of an epoch, set the centres to their means."""
        means, count = class_means(latents, labels, len(self.centers))
        self.sums += means * count[:, None]
        self.counts += count
        self.step += 1
        if int(self.step) % self.steps_per_epoch == 0:
            seen = self.counts > 0
            self.centers[seen] = self.sums[seen] / self.counts[seen, None]
            self.sums.zero_()
            self.counts.zero_()
