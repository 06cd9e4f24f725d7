"""Losses of classifiers with a separate output for confidence, or with normalised logits."""

from __future__ import annotations

__all__ = ["confidence_loss", "logit_norm"]

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from featood.losses.outlier_exposure import cross_entropy
from featood.losses.reductions import mean_over


def confidence_loss(
    logits: Float[Tensor, "B C"],
    confidence: Float[Tensor, "B"],
    labels: Int[Tensor, "B"],
    weight: Float[Tensor, ""] | float = 1.0,
    hinted: Bool[Tensor, "B"] | None = None,
) -> dict[str, Float[Tensor, ""]]:
    """Return the loss of a classifier that can ask for hints, at a price.

    With confidence c, the probability of a row's true class is ``c p_y + 1 - c``; the price is ``-log c``.

    Parameters
    ----------
    logits, labels : Tensor
        ``[B, C]`` and ``[B]``; rows with a negative label are ignored.
    confidence : Tensor
        Logit of c ``[B]``.
    weight : float or scalar Tensor
        Weight of the price.
    hinted : Tensor, optional
        Mask ``[B]`` of the rows that can get hints; by default all.

    Returns
    -------
    dict of str to Tensor
        ``loss`` and its terms ``classification`` and ``price``.

    References
    ----------
    DeVries and Taylor, Learning Confidence for Out-of-Distribution Detection in Neural Networks, 2018.
    """
    known = labels >= 0
    own = -F.cross_entropy(logits, labels.clamp(min=0), reduction="none")
    with_hint = torch.logaddexp(F.logsigmoid(confidence) + own, F.logsigmoid(-confidence))
    log_p = with_hint if hinted is None else torch.where(hinted, with_hint, own)
    classification, price = mean_over(-log_p, known), mean_over(-F.logsigmoid(confidence), known)
    return {"loss": classification + weight * price, "classification": classification, "price": price}


def logit_norm(
    logits: Float[Tensor, "B C"], labels: Int[Tensor, "B"], temperature: float = 0.04
) -> Float[Tensor, ""]:
    """Mean cross-entropy of known rows with logits scaled to the norm ``1 / temperature``, as a scalar.

    References
    ----------
    Wei et al., Mitigating Neural Network Overconfidence with Logit Normalization, ICML 2022.
    """
    return cross_entropy(F.normalize(logits, dim=1, eps=1e-7) / temperature, labels)
