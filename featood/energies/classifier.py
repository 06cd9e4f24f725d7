"""Energies of a classifier: free energies, class energies and prediction entropies of its logits."""

from __future__ import annotations

__all__ = ["Logits", "class_energy", "classification_loss", "free_energy", "prediction_entropy"]

from collections.abc import Callable

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

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
