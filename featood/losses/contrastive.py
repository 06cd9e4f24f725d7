"""Losses on the similarities of embeddings of unit length: to each other, and to one prototype per class.

Embeddings are ``[B, E]``, prototypes ``[C, E]`` and labels ``[B]``, not negative.
"""

from __future__ import annotations

__all__ = [
    "moved_prototypes",
    "prototype_compactness",
    "prototype_dispersion",
    "reweighted_pairs",
    "supervised_contrastive",
]

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from featood.losses.reductions import mean_over

BASE = 0.07
"""Losses are multiplied by the temperature over this one, as in the authors' code, which balances their gradients."""


def supervised_contrastive(
    embedding: Float[Tensor, "B E"], labels: Int[Tensor, "B"], temperature: float = 0.1
) -> Float[Tensor, ""]:
    """Return the supervised contrastive loss, a scalar.

    Parameters
    ----------
    embedding, labels : Tensor
        ``[B, E]`` and ``[B]``; each class should have two rows or more, such as two views of an image.
    temperature : float
        Divides the similarities s.

    Returns
    -------
    Tensor
        Mean over rows i of the mean over other rows p of the same class of ``-log exp(s_ip) / sum_{k != i} exp(s_ik)``,
        times ``temperature / 0.07``; rows that are alone in their class are left out.

    References
    ----------
    Khosla et al., Supervised Contrastive Learning, NeurIPS 2020.
    """
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    similar = embedding @ embedding.T / temperature
    log_p = similar - similar.masked_fill(itself, -math.inf).logsumexp(1, keepdim=True)
    positive = (labels[:, None] == labels) & ~itself
    count = positive.sum(1)
    mean = (log_p * positive).sum(1) / count.clamp(min=1)
    return -temperature / BASE * mean_over(mean, count > 0)


def prototype_compactness(
    embedding: Float[Tensor, "B E"],
    prototypes: Float[Tensor, "C E"],
    labels: Int[Tensor, "B"],
    temperature: float = 0.1,
) -> Float[Tensor, ""]:
    """Mean cross-entropy of the similarities to the prototypes over the temperature, times ``temperature / 0.07``.

    References
    ----------
    Ming et al., How to Exploit Hyperspherical Embeddings for Out-of-Distribution Detection?, ICLR 2023.
    """
    return temperature / BASE * F.cross_entropy(embedding @ prototypes.T / temperature, labels)


def prototype_dispersion(prototypes: Float[Tensor, "C E"], temperature: float = 0.1) -> Float[Tensor, ""]:
    """Mean over prototypes c of ``log mean_{k != c} exp(p_c p_k / temperature)``; 0 for a single one.

    References
    ----------
    Ming et al., How to Exploit Hyperspherical Embeddings for Out-of-Distribution Detection?, ICLR 2023.
    """
    classes = len(prototypes)
    if classes < 2:
        return prototypes.new_zeros(())
    itself = torch.eye(classes, dtype=torch.bool, device=prototypes.device)
    similar = (prototypes @ prototypes.T / temperature).masked_fill(itself, -math.inf)
    return (similar.logsumexp(1) - math.log(classes - 1)).mean()


def moved_prototypes(
    prototypes: Float[Tensor, "C E"],
    embedding: Float[Tensor, "B E"],
    labels: Int[Tensor, "B"],
    momentum: float = 0.95,
) -> Float[Tensor, "C E"]:
    """Move prototypes ``[C, E]`` to the rows of their classes, one row after the other, in order.

    Each row z of class c replaces the prototype p by ``momentum p + (1 - momentum) z``, scaled to unit length.

    References
    ----------
    Ming et al., How to Exploit Hyperspherical Embeddings for Out-of-Distribution Detection?, ICLR 2023.
    """
    of_class = F.one_hot(labels, len(prototypes))
    order = (of_class.cumsum(0).gather(1, labels[:, None]) - 1).squeeze(1)
    for number in range(int(of_class.sum(0).max())):  # all classes move by their next row together
        rows = order == number
        moved = F.normalize(
            momentum * prototypes[labels[rows]] + (1 - momentum) * embedding[rows].to(prototypes.dtype), dim=1
        )
        prototypes = prototypes.index_copy(0, labels[rows], moved)
    return prototypes


def reweighted_pairs(
    embedding: Float[Tensor, "B E"],
    labels: Int[Tensor, "B"],
    temperature: float = 0.1,
    within: tuple[float, float] = (2.0, 1.0),
    between: tuple[float, float] = (5.0, 4.0),
) -> Float[Tensor, ""]:
    """Contrastive loss in which pairs that are far from their aim weigh more, a scalar.

    Parameters
    ----------
    embedding, labels : Tensor
        ``[B, E]`` and ``[B]``.
    temperature : float
        Divides the similarities s.
    within, between : (float, float)
        Slope m and offset c of the weights ``sigmoid(c - m s)`` of pairs within a class, and ``sigmoid(m s - c)`` of
        pairs of two classes; there is no gradient through the weights w.

    Returns
    -------
    Tensor
        ``elu(log sum_within exp(-w s / t) + log sum_between exp(w s / t))``; 0 if either has no pair.

    References
    ----------
    Regmi et al., ReweightOOD: Loss Reweighting for Distance-based OOD Detection, CVPR Workshops 2024.
    """
    first, second = torch.triu_indices(len(labels), len(labels), 1, device=labels.device)
    similar, same = (embedding @ embedding.T)[first, second], labels[first] == labels[second]
    near, far = similar[same], similar[~same]
    if not len(near) or not len(far):
        return similar.sum() * 0
    weight_near = (within[1] - within[0] * near.detach()).sigmoid()
    weight_far = (between[0] * far.detach() - between[1]).sigmoid()
    return F.elu(
        (-weight_near * near / temperature).logsumexp(0) + (weight_far * far / temperature).logsumexp(0)
    )
