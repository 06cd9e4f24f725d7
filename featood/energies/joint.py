"""Energies of a classifier: free energies, class energies and prediction entropies of its logits."""

from __future__ import annotations

__all__ = ["Logits", "class_energy", "classification_loss", "free_energy", "joint_loss", "prediction_entropy"]

from collections.abc import Callable

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from featood.energies.contrastive import contrastive_divergence
from featood.energies.sgld import Energy

Logits = Callable[[Float[Tensor, "B ..."]], Float[Tensor, "B C"]]
"""Maps inputs ``[B, ...]`` to logits ``[B, C]``."""


def free_energy(logits: Logits) -> Energy:
    """Return the energy ``E(x) = -logsumexp_c l_c(x)``, which is ``-l(x)`` for one output."""
    return lambda x: -logits(x).logsumexp(1)


def class_energy(logits: Logits, labels: Int[Tensor, "B"]) -> Energy:
    """Return the energy ``E(x_i, y_i) = -l_{y_i}(x_i)`` for labels ``[B]``."""
    return lambda x: -logits(x).gather(1, labels[:, None]).squeeze(1)


def prediction_entropy(logits: Logits) -> Energy:
    """Return the energy ``H(p(.|x))`` in nats, which is low for confident predictions."""

    def entropy(x: Float[Tensor, "B ..."]) -> Float[Tensor, "B"]:
        log_p = logits(x).log_softmax(1)
        return -(log_p.exp() * log_p).sum(1)

    return entropy


def classification_loss(
    logits: Logits,
    rows: Float[Tensor, "B ..."],
    labels: Int[Tensor, "B"],
    *,
    smoothing: float = 0.0,
    entropy: float = 0.0,
) -> Float[Tensor, ""]:
    """Return ``mean CE(l(x), y) - entropy * mean H(p(.|x))``, with label smoothing."""
    values = logits(rows)
    loss = F.cross_entropy(values, labels, label_smoothing=smoothing)
    return loss - entropy * prediction_entropy(lambda _: values)(rows).mean() if entropy else loss


def joint_loss(
    logits: Logits,
    rows: Float[Tensor, "B *shape"],
    labels: Int[Tensor, "B"],
    samples: Float[Tensor, "M *shape"],
    *,
    density: float = 1.0,
    classification: float = 1.0,
    l2: float = 1.0,
    smoothing: float = 0.0,
    entropy: float = 0.0,
) -> dict[str, Float[Tensor, ""]]:
    """Return the loss of a joint energy model, a weighted sum of ``-log p(x)`` and ``-log p(y|x)``.

    Parameters
    ----------
    logits : callable
        ``[B, ...]`` to ``[B, C]``.
    rows, labels : Tensor
        Data ``[B, ...]`` and their classes ``[B]``.
    samples : Tensor
        Samples of the model ``[M, ...]``.
    density, classification : float
        Weights of the contrastive divergence of the free energy and of the cross-entropy.
    l2 : float
        Weight of the squared energies within the contrastive divergence.
    smoothing, entropy : float
        See :func:`classification_loss`.

    Returns
    -------
    dict of str to Tensor
        ``loss``, the mean energies ``positive`` and ``negative``, and ``classification``.

    References
    ----------
    Grathwohl et al., Your Classifier is Secretly an Energy Based Model and You Should Treat it Like One, ICLR 2020.
    """
    parts = contrastive_divergence(free_energy(logits), rows, samples, l2=l2)
    cross_entropy = classification_loss(logits, rows, labels, smoothing=smoothing, entropy=entropy)
    loss = density * parts["loss"] + classification * cross_entropy
    return {**parts, "loss": loss, "classification": cross_entropy}
