"""Uncertainties of several predictions for the same row, from the members of an ensemble or dropout passes."""

from __future__ import annotations

__all__ = ["mean_log_probabilities", "mutual_information", "predictive_entropy", "probability_variance"]

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Num
from torch import Tensor


def mean_log_probabilities(draws: Sequence[Num[Tensor, "B C"]]) -> Float[Tensor, "B C"]:
    """Logarithm of the mean softmax probabilities.

    Parameters
    ----------
    draws : sequence of Tensor
        Logits ``[B, C]`` of each prediction.

    Returns
    -------
    Tensor
        ``[B, C]`` in float64.
    """
    total = draws[0].double().log_softmax(1)
    for logits in draws[1:]:
        total = torch.logaddexp(total, logits.double().log_softmax(1))
    return total - math.log(len(draws))


def predictive_entropy(draws: Sequence[Num[Tensor, "B C"]]) -> Float[Tensor, "B"]:
    """Entropy of the mean probabilities in nats ``[B]``: the total uncertainty."""
    log_p = mean_log_probabilities(draws)
    return -(log_p.exp() * log_p).sum(1)


def mutual_information(draws: Sequence[Num[Tensor, "B C"]]) -> Float[Tensor, "B"]:
    """Mean divergence of the predictions from their mean in nats ``[B]``: the epistemic uncertainty.

    It is the entropy of the mean probabilities minus the mean entropy of the probabilities.
    """
    mean = mean_log_probabilities(draws)
    total = torch.zeros_like(mean[:, 0])
    for logits in draws:
        log_p = logits.double().log_softmax(1)
        total += (log_p.exp() * (log_p - mean)).sum(1)
    return (total / len(draws)).clamp(min=0)


def probability_variance(draws: Sequence[Num[Tensor, "B C"]]) -> Float[Tensor, "B"]:
    """Unbiased variance of the probabilities over at least two predictions, averaged over the classes ``[B]``."""
    mean = mean_log_probabilities(draws).exp()
    total = torch.zeros_like(mean[:, 0])
    for logits in draws:
        total += (logits.double().softmax(1) - mean).square().mean(1)
    return total / (len(draws) - 1)
