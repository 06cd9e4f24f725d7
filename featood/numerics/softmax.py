"""Softmax probabilities and their complements, accurate for probabilities close to one."""

from __future__ import annotations

__all__ = ["log_probabilities"]

import math

import torch
from jaxtyping import Float
from torch import Tensor


def log_probabilities(logits: Float[Tensor, "B C"]) -> tuple[Float[Tensor, "B C"], Float[Tensor, "B C"]]:
    """Logarithms of p and of 1 - p for the softmax probabilities p.

    One minus the largest probability is computed as the sum of the others, as the difference has no correct digits if
    the largest logit exceeds the others by 37.

    Parameters
    ----------
    logits : Tensor
        ``[B, C]``.

    Returns
    -------
    log_p, log_complement : Tensor
        ``[B, C]`` each.
    """
    log_p = logits.log_softmax(1)
    top = log_p.argmax(1, keepdim=True)
    others = log_p.scatter(1, top, -math.inf)
    log_complement = torch.log1p(-others.exp()).scatter(1, top, others.logsumexp(1, keepdim=True))
    return log_p, log_complement
