"""Encoder to a latent space that counts its own steps."""

from __future__ import annotations

__all__ = ["LatentEncoder"]

import torch
from torch import Tensor, nn

from featood.losses import LatentSpace


class LatentEncoder(LatentSpace):
    """A latent space that counts the steps of its training, to know when an epoch ends."""

    step: Tensor

    def __init__(self, encoder: nn.Module, latent: int, classes: int) -> None:
        super().__init__(encoder, latent, classes)
        self.register_buffer("step", torch.tensor(0))
        self.steps_per_epoch = 1

    @property
    def epoch(self) -> int:
        """Number of completed epochs."""
        return int(self.step) // self.steps_per_epoch

    @torch.no_grad()
    def advance(self, latents: Tensor, labels: Tensor) -> None:
        """Count a step, and follow its latents ``[B, latent]``."""
        self.step += 1
        self.follow(latents, labels, int(self.step) % self.steps_per_epoch == 0)
