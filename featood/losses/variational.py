"""The evidence bound of variational autoencoders, and a likelihood of 8-bit images for it.

The prior is ``h ~ N(0, I)``, and the posterior of a row ``h|x ~ N(m(x), s(x)^2)``, given as m and log s ``[B, L]``.
"""

from __future__ import annotations

__all__ = ["discretized_logistic", "divergence", "posterior", "sampled_terms"]

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

WIDTHS = -10.0, 10.0
"""Bounds on the log standard deviations of the posterior, to avoid overflow far from the data."""
LEAST_SCALE = -7.0
"""Smallest log-scale of the logistic distributions, as the authors have it."""


def posterior(outputs: Float[Tensor, "B _"]) -> tuple[Float[Tensor, "B L"], Float[Tensor, "B L"]]:
    """Return m and log s ``[B, L]`` of the outputs ``[B, 2L]`` of an encoder."""
    mean, log_width = outputs.chunk(2, 1)
    return mean, log_width.clamp(*WIDTHS)


def divergence(mean: Float[Tensor, "B L"], log_width: Float[Tensor, "B L"]) -> Float[Tensor, "B"]:
    """Return ``KL(N(m, s^2) || N(0, I))`` ``[B]``, in nats."""
    return 0.5 * (mean.square() + (2 * log_width).exp() - 1 - 2 * log_width).sum(1)


def sampled_terms(
    log_likelihood: Callable[[Tensor], Tensor],
    mean: Float[Tensor, "B L"],
    log_width: Float[Tensor, "B L"],
    draws: Float[Tensor, "K L"],
) -> tuple[Float[Tensor, "K B"], Float[Tensor, "K B"]]:
    """Return ``log p(x|h)`` and ``log p(x, h) - log q(h|x)`` at samples of the posterior.

    Parameters
    ----------
    log_likelihood : callable
        From latent points ``[B, L]`` to ``log p(x|h)`` ``[B]``.
    mean, log_width : Tensor
        The posterior.
    draws : Tensor
        From ``N(0, I)``; all rows share them, so that no row depends on others.

    Returns
    -------
    likelihoods : Tensor
        ``[K, B]``; their mean minus `divergence` is the evidence bound.
    log_weights : Tensor
        ``[K, B]``; the logarithm of the mean weight is the tighter bound of Burda et al., 2016.
    """
    likelihoods, log_weights = [], []
    for draw in draws:  # one at a time, because all at once would need K times the memory
        latent = mean + log_width.exp() * draw
        likelihoods.append(log_likelihood(latent))
        # log p(h) - log q(h|x); their common constants cancel
        prior = (0.5 * draw.square() + log_width - 0.5 * latent.square()).sum(1)
        log_weights.append(likelihoods[-1] + prior)
    return torch.stack(likelihoods), torch.stack(log_weights)


def discretized_logistic(
    pixels: Float[Tensor, "B *D"], mean: Float[Tensor, "B *D"], log_scale: Float[Tensor, "B *D"]
) -> Float[Tensor, "B"]:
    """Return the log-probability ``[B]`` in nats of 8-bit images, each value by a logistic distribution.

    The probability of a value is that of its interval, which for 0 and 255 extends to infinity, so all 256 sum to 1.

    Parameters
    ----------
    pixels : Tensor
        Values in [-1, 1]: -1 for 0 and 1 for 255.
    mean, log_scale : Tensor
        Of the distributions, on that scale.

    References
    ----------
    Kingma et al., Improved Variational Inference with Inverse Autoregressive Flow, NeurIPS 2016; Salimans et al.,
    PixelCNN++, ICLR 2017.
    """
    half = 1 / 255
    rate = (-log_scale.clamp(min=LEAST_SCALE)).exp()
    upper = F.logsigmoid((pixels - mean + half) * rate)
    lower = F.logsigmoid((mean - pixels + half) * rate)
    # sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a)), which does not cancel in the tails
    inside = upper + lower + (-torch.expm1(-2 * half * rate)).log()
    values = torch.where(pixels < half - 1, upper, torch.where(pixels > 1 - half, lower, inside))
    return values.flatten(1).sum(1)
