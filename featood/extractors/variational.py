"""A variational autoencoder of images, whose output is its evidence bound."""

from __future__ import annotations

__all__ = ["ImageVAE"]

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from featood.losses.variational import discretized_logistic, divergence, posterior, sampled_terms

FIRST_SCALE = -2.0
"""Initial log-scale of the values around their reconstruction, on [-1, 1]."""


class ImageVAE(nn.Module):
    """A network from normalised images to lower bounds on the log-probabilities of their 8-bit pixels ``[B, 1]``.

    Prior ``h ~ N(0, I)``; each value of an image follows a discretised logistic distribution.

    Parameters
    ----------
    encoder : Module
        From images ``[B, C, H, W]`` to means and log standard deviations of the posterior ``[B, 2 latent]``.
    decoder : Module
        From latent points ``[B, latent]`` to means and log-scales of the values ``[B, 2 C, H, W]``.
    draws : Tensor
        ``[K, latent]`` from ``N(0, I)``, with which the posterior of every image is sampled.
    mean, std : sequence of float
        Normalisation of the images, one value or one per channel, for pixels in [0, 1].
    """

    feature_layer = "code"
    draws: Tensor

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        draws: Tensor,
        mean: Sequence[float] = (0.5,),
        std: Sequence[float] = (0.5,),
    ) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.code = nn.Identity()  # a module, so that it can be tapped
        self.register_buffer("draws", draws)
        self.colours = tuple(mean), tuple(std)

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return means and log standard deviations ``[B, latent]`` of the posterior, in float32 or better."""
        outputs = self.encoder(images)
        mean, log_width = posterior(outputs.to(torch.promote_types(outputs.dtype, torch.float32)))
        return self.code(mean), log_width

    def decode(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Return means and log-scales ``[B, C, H, W]`` of the values, for pixels in [-1, 1]."""
        mean, log_scale = self.decoder(latent).to(latent.dtype).chunk(2, 1)
        return mean, log_scale + FIRST_SCALE

    def normalised(self, values: Tensor) -> Tensor:
        """Return images ``[B, C, H, W]`` in [-1, 1] normalised like the inputs."""
        mean, std = self._colours(values)
        return ((values.clamp(-1, 1) + 1) / 2 - mean) / std

    def log_likelihood(self, images: Tensor, latent: Tensor) -> Tensor:
        """Return ``log p(x|h)`` ``[B]`` in nats."""
        mean, std = self._colours(latent)
        return discretized_logistic(2 * (images * std + mean) - 1, *self.decode(latent))

    def evidence_bound(self, images: Tensor, mean: Tensor, log_width: Tensor, draws: Tensor) -> Tensor:
        """Return the evidence bound ``[B]`` in nats, for any posterior, with samples of it."""
        likelihoods, _ = sampled_terms(
            lambda latent: self.log_likelihood(images, latent), mean, log_width, draws
        )
        return likelihoods.mean(0) - divergence(mean, log_width)

    def _colours(self, like: Tensor) -> tuple[Tensor, Tensor]:
        mean, std = (like.new_tensor(values)[:, None, None] for values in self.colours)
        return mean, std

    def forward(self, images: Tensor) -> Tensor:
        """Map images to evidence bounds ``[B, 1]``."""
        mean, log_width = self.posterior(images)
        return self.evidence_bound(images, mean, log_width, self.draws)[:, None]
