"""Variational autoencoders of images."""

from __future__ import annotations

__all__ = ["VAE"]

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from featood.extractors.models.between import SAMPLES, between
from featood.extractors.models.model import ImageBatch, Model, Setup
from featood.extractors.models.network import TrainableNet, outputs_for
from featood.extractors.models.registry import register
from featood.extractors.variational import ImageVAE
from featood.losses.variational import divergence
from featood.nets.decoders import DECODERS
from featood.options import option
from featood.training.loop import Losses


@register(
    "vae",
    title="Variational autoencoder",
    paper="Kingma and Welling, Auto-Encoding Variational Bayes, ICLR",
    year=2014,
    url="https://arxiv.org/abs/1312.6114",
    needs=(),
)
class VAE(Model):
    """Maximise the evidence bound of 8-bit images, with the network as encoder; labels are not used.

    Each value of an image follows a logistic distribution around its reconstruction, whose mean and scale the decoder
    computes, integrated over the interval of an 8-bit value. The column ``evidence-bound`` is therefore a lower bound
    on the log-probability of the image in nats: score it with ``likelihood``, ``typicality`` or ``input-complexity``.
    The main column has the means of the posteriors. Optimiser and size of the code are those of Xiao et al., 2020, who
    have a distribution over 256 classes for each value; ``extract --with regret`` computes their score.
    """

    classifies: ClassVar[bool] = False
    error_name: ClassVar[str] = "validation_bits_per_dim"
    density_column: ClassVar[str] = "evidence-bound"
    colours: ClassVar[tuple[float, float] | None] = (0.5, 0.5)
    training: ClassVar[Mapping[str, Any]] = {
        "optimizer": "adam", "lr": 3e-4, "weight_decay": 3e-5, "schedule": "constant",
    }  # fmt: skip

    latent: int = option(100, "size of the code", low=1)
    decoder: str = option("conv", "network from codes to images", choices=tuple(DECODERS))
    beta: float = option(1.0, "weight of the divergence of the posterior from the prior, in training", low=0)
    draws: int = option(
        4, "samples of the posterior for the bound of each image, the same for all images", low=1
    )

    def outputs(self, classes: int) -> int:
        """Return the number of means and widths of the posterior."""
        return 2 * self.latent

    def around(self, net: nn.Module, setup: Setup) -> nn.Module:
        """Return encoder and decoder as one network.

        Raises
        ------
        UsageError
            If encoder or decoder is impossible for images of this shape.
        """
        outputs_for(net.eval(), torch.zeros(2, *setup.shape))
        channels, height, width = setup.shape
        decoder = DECODERS[self.decoder](self.latent, (2 * channels, height, width))
        return ImageVAE(net.train(), decoder, torch.randn(self.draws, self.latent), setup.mean, setup.std)

    def errors(self, net: TrainableNet, batch: ImageBatch) -> Tensor:
        """Return the negated evidence bounds in bits per value of the images ``[B]``."""
        return -net(batch.images)[:, 0] / (batch.images[0].numel() * math.log(2))

    def pictures(self, net: TrainableNet, images: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the means of decoded draws from the prior, and of codes between those of the images."""
        vae: Any = net.body
        draws = torch.randn(SAMPLES, self.latent, generator=generator).to(images)
        codes = {"samples": draws, "interpolations": between(vae.posterior(images)[0])}
        return {name: vae.normalised(vae.decode(points)[0]) for name, points in codes.items()}

    def losses(self, net: TrainableNet, batch: ImageBatch) -> Losses:
        """Return the negative evidence bound per value of an image, with one sample per image, and its parts."""
        vae: Any = net.body
        mean, log_width = vae.posterior(batch.images)
        draws = torch.randn(mean.shape, generator=batch.generator, dtype=mean.dtype)
        latent = mean + log_width.exp() * draws.to(mean.device)
        size = batch.images[0].numel()
        reconstruction = -vae.log_likelihood(batch.images, latent).mean() / size
        kl = divergence(mean, log_width).mean() / size
        return {"loss": reconstruction + self.beta * kl, "reconstruction": reconstruction, "kl": kl}
