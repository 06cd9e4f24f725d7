"""Latent spaces in which every class is a small ball, far from the others.

Latents are ``[B, L]`` and labels ``[B]``, not negative. Every term is 0 where the batch has nothing for it.
"""

from __future__ import annotations

__all__ = ["latent_divergence", "triplet_margin"]

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from featood.losses.distances import class_means, distances


def triplet_margin(
    latents: Float[Tensor, "B L"], labels: Int[Tensor, "B"], slack: float = 0.1, margin: float = 0.15
) -> Float[Tensor, ""]:
    """Triplet loss with a term that keeps classes at a distance of their own.

    Parameters
    ----------
    latents : Tensor
        ``[B, L]``.
    labels : Tensor
        ``[B]``.
    slack : float
        How much farther than a row of the same class one of another has to be.
    margin : float
        Distance that rows of two classes have to keep.

    Returns
    -------
    Tensor
        Mean of ``max(d_ap - d_an + slack, 0) + max(margin - d_an, 0)`` over the triplets (a, p, n), of two rows of a
        class and one of another, for which it is not zero; d is the Euclidean distance.

    References
    ----------
    Dinari and Freifeld, Variational- and Metric-based Deep Latent Space for Out-of-Distribution Detection, UAI 2022.
    """
    apart = distances(latents, latents)
    same = labels[:, None] == labels
    anchor, positive = same.logical_and(
        ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    ).nonzero(as_tuple=True)
    near, far = apart[anchor, positive][:, None], apart[anchor]
    values = ((near - far + slack).relu() + (margin - far).relu()) * ~same[anchor]
    return values.sum() / (values > 0).sum().clamp(min=1)


def latent_divergence(
    latents: Float[Tensor, "B L"],
    means: Float[Tensor, "B L"],
    log_variances: Float[Tensor, "B L"],
    centers: Float[Tensor, "C L"],
    labels: Int[Tensor, "B"],
    deviation: float = 0.1,
) -> Float[Tensor, ""]:
    """Divergence of the posteriors of the latents from a small ball around the centre of their class.

    Parameters
    ----------
    latents : Tensor
        ``[B, L]`` drawn from the posteriors: one sample each stands for the expectation.
    means, log_variances : Tensor
        ``[B, L]`` of the posteriors.
    centers : Tensor
        ``[C, L]``.
    labels : Tensor
        ``[B]``.
    deviation : float
        Standard deviation of the ball.

    Returns
    -------
    Tensor
        Mean over the latent dimensions of ``log N(z; mu, sigma^2) - log N(z; m_y, deviation^2)``, over the rows of each
        class, and over the classes.
    """
    posterior = _log_normal(latents, means, log_variances)
    prior = _log_normal(latents, centers[labels], latents.new_tensor(2 * math.log(deviation)))
    by_class, count = class_means((posterior - prior).mean(1, keepdim=True), labels, len(centers))
    return by_class.sum() / (count > 0).sum().clamp(min=1)


def _log_normal(
    values: Float[Tensor, "B L"],
    mean: Float[Tensor, "B L"],
    log_variance: Float[Tensor, "B L"] | Float[Tensor, ""],
) -> Float[Tensor, "B L"]:
    squared = (values - mean).square() * (-log_variance).exp()
    return -0.5 * (squared + log_variance + math.log(2 * math.pi))
