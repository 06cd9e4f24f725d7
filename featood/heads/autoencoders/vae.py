"""Variational autoencoder."""

from __future__ import annotations

__all__ = ["VAE", "VAENet"]

import math

import torch
from torch import Tensor, nn

from featood.heads.autoencoders.autoencoder import Autoencoder
from featood.heads.registry import register
from featood.losses.variational import divergence, posterior, sampled_terms
from featood.options import option

LEAST_NOISE = 1e-2
"""Smallest learned standard deviation: the likelihood of perfect reconstructions is unbounded."""
FIRST_NOISE = 0.3
"""Initial value of the learned standard deviation: with a larger one, posterior collapse lasts long."""


class VAENet(nn.Module):
    """Prior ``h ~ N(0, I)``, likelihood ``x|h ~ N(decoder(h), sigma^2 I)`` and posterior ``h|x ~ N(m(x), s(x)^2)``.

    Parameters
    ----------
    encoder, decoder : Module
        ``[B, D]`` to m and log s ``[B, 2 latent]``, and ``[B, latent]`` to ``[B, D]``.
    noise : float
        sigma; 0 to learn it.
    draws : Tensor
        ``[K, latent]`` from ``N(0, I)``, used to sample the posterior in the score of every row.
    """

    draws: Tensor

    def __init__(self, encoder: nn.Module, decoder: nn.Module, noise: float, draws: Tensor) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.least = math.log(noise or LEAST_NOISE)
        self.log_sigma = nn.Parameter(torch.tensor(math.log(noise or FIRST_NOISE)), requires_grad=not noise)
        self.register_buffer("draws", draws)

    def posterior(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return m and log s ``[B, latent]`` of rows ``[B, D]``."""
        return posterior(self.encoder(rows))

    def log_likelihood(self, rows: Tensor, latent: Tensor) -> Tensor:
        """Return ``log p(x|h)`` ``[B]`` of rows ``[B, D]`` at latent points ``[B, latent]``."""
        log_sigma: Tensor = self.log_sigma
        if self.training:
            with torch.no_grad():  # not in the graph: clamping there would zero the gradient at the bound
                log_sigma.clamp_(min=self.least)
        else:
            log_sigma = log_sigma.clamp(min=self.least)
        squared = ((rows - self.decoder(latent)) / log_sigma.exp()).square().sum(1)
        return -0.5 * squared - rows.shape[1] * (log_sigma + 0.5 * math.log(2 * math.pi))


@register(
    "vae",
    title="Variational autoencoder",
    paper="Kingma and Welling, Auto-Encoding Variational Bayes, ICLR",
    year=2014,
    url="https://arxiv.org/abs/1312.6114",
    needs=("features",),
    caution="it ignores the classes: on features of classifiers, 2 to 4 points of AUROC below Gaussian classes",
)
class VAE(Autoencoder):
    """Score the negative evidence lower bound of a variational autoencoder, in nats.

    It is the sum of ``reconstruction``, the mean of ``-log p(x|h)`` over samples of the posterior (An and Cho 2015),
    and ``kl``, the divergence of the posterior from the prior. ``importance-weighted`` is the tighter bound of Burda et
    al. 2016 on the same samples. The underlying random draws are fixed by the seed and shared by all rows, so the score
    of a row does not depend on other rows.
    """

    which: str = option(
        "elbo", "score to return", choices=("elbo", "importance-weighted", "reconstruction", "kl")
    )
    noise: float = option(
        0.0, "standard deviation of features around their reconstruction; 0 to learn it", low=0
    )
    draws: int = option(16, "samples of the latent variable per scored row", low=1)

    def build(self, size: int, classes: int, generator: torch.Generator) -> nn.Module:
        """Make encoder and decoder, and draw the random numbers of the scores."""
        encoder, decoder = self.perceptrons(size, 2, generator)
        draws = torch.randn(self.draws, self.latent_size(size), generator=generator)
        return VAENet(encoder, decoder, self.noise, draws)

    def losses(
        self, model: VAENet, rows: Tensor, labels: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Return the negative evidence lower bound with one sample per row, and its parts."""
        mean, log_width = model.posterior(rows)
        draws = torch.randn(mean.shape, generator=generator, device=generator.device, dtype=mean.dtype)
        latent = mean + log_width.exp() * draws.to(mean)
        reconstruction = -model.log_likelihood(rows, latent).mean()
        kl = divergence(mean, log_width).mean()
        return {"loss": reconstruction + kl, "reconstruction": reconstruction, "kl": kl}

    def score_rows(self, model: VAENet, rows: Tensor) -> Tensor:
        """Return the score `which` ``[B]``."""
        mean, log_width = model.posterior(rows)
        if self.which == "kl":
            return divergence(mean, log_width)
        likelihoods, log_weights = sampled_terms(
            lambda latent: model.log_likelihood(rows, latent), mean, log_width, model.draws
        )
        if self.which == "importance-weighted":
            return math.log(len(log_weights)) - log_weights.logsumexp(0)
        reconstruction = -likelihoods.mean(0)
        return (
            reconstruction if self.which == "reconstruction" else reconstruction + divergence(mean, log_width)
        )
