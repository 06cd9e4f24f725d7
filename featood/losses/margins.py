"""Losses of latent spaces in which every class is a small ball, far from the others.

Latents are ``[B, L]`` and labels ``[B]``, not negative. A term is 0 if the batch has no rows for it.
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
    """Triplet loss with an additional term for a minimum distance between classes.

    Parameters
    ----------
    latents : Tensor
        ``[B, L]``.
    labels : Tensor
        ``[B]``.
    slack : float
        Margin by which rows of other classes must be farther away than rows of the same class.
    margin : float
        Minimum distance of rows of different classes.

    Returns
    -------
    Tensor
        Mean of ``max(d_ap - d_an + slack, 0) + max(margin - d_an, 0)`` over the triplets (a, p, n) for which it is not
        zero, where a and p have the same class, n has another, and d is the Euclidean distance.

    References
    ----------
    Dinari and Freifeld, Variational- and Metric-based Deep Latent Space for Out-of-Distribution Detection, UAI 2022.
    """
    pairwise = distances(latents, latents)
    same = labels[:, None] == labels
    anchor, positive = same.logical_and(
        ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    ).nonzero(as_tuple=True)
    near, far = pairwise[anchor, positive][:, None], pairwise[anchor]
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
    """Divergence of the latents' posteriors from a narrow normal distribution around the centre of their class.

    Parameters
    ----------
    latents : Tensor
        ``[B, L]`` one draw from each posterior, as an estimate of the expectation.
    means, log_variances : Tensor
        ``[B, L]`` of the posteriors.
    centers : Tensor
        ``[C, L]``.
    labels : Tensor
        ``[B]``.
    deviation : float
        Standard deviation of this normal distribution.

    Returns
    -------
    Tensor
        Mean of ``log N(z; mu, sigma^2) - log N(z; m_y, deviation^2)`` over the latent dimensions, over the rows of each
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
