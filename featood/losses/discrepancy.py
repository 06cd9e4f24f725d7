"""Loss of two classifiers that agree on known rows and differ in certainty on outliers."""

from __future__ import annotations

__all__ = ["classifier_discrepancy"]

import torch
from jaxtyping import Float, Int
from torch import Tensor

from featood.losses.outlier_exposure import cross_entropy
from featood.losses.reductions import mean_over


def classifier_discrepancy(
    first: Float[Tensor, "B C"],
    second: Float[Tensor, "B C"],
    labels: Int[Tensor, "B"],
    weight: float = 1.0,
    margin: float = 1.2,
) -> dict[str, Float[Tensor, ""]]:
    """Return the cross-entropies of two classifiers plus a loss on their entropies for outliers.

    Parameters
    ----------
    first, second, labels : Tensor
        Logits ``[B, C]`` of both, and labels ``[B]``; a negative label marks an outlier.
    weight : float
        Weight of ``max(margin - mean (H(p1) - H(p2)), 0)``, with the mean over the outliers.
    margin : float
        Smallest difference of the entropies, in nats.

    Returns
    -------
    dict of str to Tensor
        ``loss`` and its terms ``classification`` and ``discrepancy``.

    References
    ----------
    Yu and Aizawa, Unsupervised Out-of-Distribution Detection by Maximum Classifier Discrepancy, ICCV 2019.
    """
    named = cross_entropy(first, labels) + cross_entropy(second, labels)
    apart = mean_over(_entropy(first) - _entropy(second), labels < 0)
    discrepancy = (margin - apart).relu()
    return {
        "loss": named + weight * discrepancy,
        "classification": named,
        "discrepancy": discrepancy,
    }


def _entropy(logits: Float[Tensor, "B C"]) -> Float[Tensor, "B"]:
    log_p = logits.log_softmax(1)
    return -torch.sum(log_p.exp() * log_p, 1)
