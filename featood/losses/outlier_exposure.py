"""Losses of classifiers that are uncertain for outliers, or have an additional class for them.

Logits are ``[B, C]`` and labels ``[B]``; a negative label marks an outlier. Every term is a mean over its rows, and 0
if the batch has no such rows.
"""

from __future__ import annotations

__all__ = [
    "background_class",
    "cross_entropies",
    "cross_entropy",
    "length_penalties",
    "mixture_outlier_exposure",
    "objectosphere",
    "outlier_exposure",
    "uniform_cross_entropies",
    "uniform_cross_entropy",
]

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from featood.losses.reductions import mean_over


def cross_entropies(logits: Float[Tensor, "B C"], labels: Int[Tensor, "B"]) -> Float[Tensor, "B"]:
    """Cross-entropy of each known row, and 0 for outliers ``[B]``."""
    return F.cross_entropy(logits, labels.clamp(min=-1), reduction="none", ignore_index=-1)


def cross_entropy(logits: Float[Tensor, "B C"], labels: Int[Tensor, "B"]) -> Float[Tensor, ""]:
    """Mean cross-entropy of the known rows, as a scalar."""
    return mean_over(cross_entropies(logits, labels), labels >= 0)


def uniform_cross_entropies(logits: Float[Tensor, "B C"], labels: Int[Tensor, "B"]) -> Float[Tensor, "B"]:
    """``-sum_c log p_c / C`` of each outlier, its cross-entropy to the uniform distribution, and 0 for known rows."""
    return torch.where(labels < 0, logits.logsumexp(1) - logits.mean(1), 0.0)


def uniform_cross_entropy(logits: Float[Tensor, "B C"], labels: Int[Tensor, "B"]) -> Float[Tensor, ""]:
    """Mean of :func:`uniform_cross_entropies` over the outliers, as a scalar."""
    return mean_over(uniform_cross_entropies(logits, labels), labels < 0)


def length_penalties(
    features: Float[Tensor, "B D"], labels: Int[Tensor, "B"], radius: float = 1.0
) -> Float[Tensor, "B"]:
    """``max(radius - |z|, 0)^2`` of each known row, and ``|z|^2`` of each outlier ``[B]``."""
    squared = features.square().sum(1)
    # the gradient of the square root at zero is NaN; clamping makes it 0
    short = (radius - squared.clamp(min=1e-12).sqrt()).relu().square()
    return torch.where(labels < 0, squared, short)


def outlier_exposure(
    logits: Float[Tensor, "B C"], labels: Int[Tensor, "B"], weight: float = 0.5
) -> dict[str, Float[Tensor, ""]]:
    """Return the loss of outlier exposure; with weight 1, it is the entropic open-set loss.

    Parameters
    ----------
    logits, labels : Tensor
        ``[B, C]`` and ``[B]``.
    weight : float
        Weight of the outliers' cross-entropy to the uniform distribution.

    Returns
    -------
    dict of str to Tensor
        ``loss`` and its terms ``classification`` and ``outliers``.

    References
    ----------
    Hendrycks et al., Deep Anomaly Detection with Outlier Exposure, ICLR 2019; Dhamija et al., Reducing Network
    Agnostophobia, NeurIPS 2018.
    """
    classification, outliers = cross_entropy(logits, labels), uniform_cross_entropy(logits, labels)
    return {
        "loss": classification + weight * outliers,
        "classification": classification,
        "outliers": outliers,
    }


def objectosphere(
    logits: Float[Tensor, "B C"],
    features: Float[Tensor, "B D"],
    labels: Int[Tensor, "B"],
    weight: float = 1.0,
    radius: float = 1.0,
) -> dict[str, Float[Tensor, ""]]:
    """Return the entropic open-set loss plus `weight` times a loss on the norms of the features.

    Parameters
    ----------
    logits, features, labels : Tensor
        ``[B, C]``, ``[B, D]`` and ``[B]``.
    weight : float
        Weight of ``mean max(radius - |z|, 0)^2`` over known rows plus ``mean |z|^2`` over outliers.
    radius : float
        Minimum norm for features of known rows.

    Returns
    -------
    dict of str to Tensor
        ``loss`` and its terms ``classification``, ``outliers`` and ``length``.

    References
    ----------
    Dhamija et al., Reducing Network Agnostophobia, NeurIPS 2018.
    """
    parts = outlier_exposure(logits, labels, weight=1.0)
    penalties = length_penalties(features, labels, radius)
    length = mean_over(penalties, labels >= 0) + mean_over(penalties, labels < 0)
    return {**parts, "loss": parts["loss"] + weight * length, "length": length}


def background_class(logits: Float[Tensor, "B _"], labels: Int[Tensor, "B"]) -> Float[Tensor, ""]:
    """Mean cross-entropy over logits ``[B, C + 1]``, where the last class is for outliers, as a scalar.

    References
    ----------
    Dhamija et al., Reducing Network Agnostophobia, NeurIPS 2018 (baseline).
    """
    return F.cross_entropy(logits, torch.where(labels < 0, logits.shape[1] - 1, labels))


def mixture_outlier_exposure(
    logits: Callable[[Float[Tensor, "B *shape"]], Float[Tensor, "B C"]],
    rows: Float[Tensor, "B *shape"],
    labels: Int[Tensor, "B"],
    generator: torch.Generator,
    weight: float = 5.0,
) -> dict[str, Float[Tensor, ""]]:
    """Return the cross-entropy of known rows plus that of mixtures of known rows and outliers.

    A mixture ``m x + (1 - m) x'`` of a known row ``x`` of class y and an outlier ``x'``, with m uniform in [0, 1], has
    the target probability m for y, and the remainder is uniform over all classes.

    Parameters
    ----------
    logits : callable
        ``[B, ...]`` to ``[B, C]``.
    rows, labels : Tensor
        ``[B, ...]`` and ``[B]``.
    generator : torch.Generator
        Generator of the pairs and their shares.
    weight : float
        Weight of the mixtures.

    Returns
    -------
    dict of str to Tensor
        ``loss`` and its terms ``classification`` and ``mixtures``.

    References
    ----------
    Zhang et al., Mixture Outlier Exposure: Towards Out-of-Distribution Detection in Fine-grained Environments,
    WACV 2023 (linear mixtures).
    """
    known, classification = labels >= 0, cross_entropy(logits(rows), labels)
    inside, outside = rows[known], rows[~known]
    mixtures = classification.new_zeros(())
    if len(inside) and len(outside):
        shape = (len(inside),)
        partners = torch.randint(len(outside), shape, generator=generator, device=generator.device)
        share = torch.rand(shape, generator=generator, device=generator.device).to(rows)
        each = share.reshape(-1, *[1] * (rows.ndim - 1))
        mixed = each * inside + (1 - each) * outside[partners.to(rows.device)]
        values = logits(mixed)
        own = values.gather(1, labels[known][:, None]).squeeze(1)
        mixtures = (values.logsumexp(1) - share * own - (1 - share) * values.mean(1)).mean()
    return {
        "loss": classification + weight * mixtures,
        "classification": classification,
        "mixtures": mixtures,
    }
