"""Class-conditional densities by contrast with other inputs, whose logits are kept in a queue."""

from __future__ import annotations

__all__ = ["HybridObjective", "LogitQueue", "hybrid_contrast"]

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from featood.energies.objective import EnergyObjective
from featood.options import option


def hybrid_contrast(
    logits: Float[Tensor, "B C"],
    labels: Int[Tensor, "B"],
    others: Float[Tensor, "K C"],
    temperature: float = 0.1,
) -> Float[Tensor, ""]:
    """Return the mean of ``-log exp(n_y(x) / t) / (exp(n_y(x) / t) + sum_k exp(n_y(x_k) / t))``.

    It estimates ``-log p(x|y)``, with the logits of other inputs in place of the normalising integral.

    Parameters
    ----------
    logits, labels : Tensor
        Logits ``[B, C]`` and classes ``[B]``.
    others : Tensor
        Logits ``[K, C]`` of other inputs, without gradients.
    temperature : float
        t; n are the logits of an input divided by their norm.

    References
    ----------
    Liu and Abbeel, Hybrid Discriminative-Generative Training via Contrastive Learning, arXiv 2020. In the authors'
    code, the logsumexp that picks the logit of the class also has the zeros of all other classes.
    """
    own = F.normalize(logits, dim=1).gather(1, labels[:, None])
    negative = F.normalize(others, dim=1).T[labels]
    scores = torch.cat([own, negative.to(own.dtype)], 1) / temperature
    return -scores.log_softmax(1)[:, 0].mean()


class LogitQueue(nn.Module):
    """The latest `size` logits of `classes` classes, at first normal noise."""

    gather: Callable[[Tensor], Tensor] = staticmethod(lambda rows: rows)
    """From the rows of this process to those of all that train together."""
    values: Float[Tensor, "K C"]
    position: Int[Tensor, ""]

    def __init__(self, size: int, classes: int, generator: torch.Generator) -> None:
        super().__init__()
        self.register_buffer("values", torch.randn(size, classes, generator=generator))
        self.register_buffer("position", torch.tensor(0))

    @torch.no_grad()
    def push(self, logits: Float[Tensor, "B C"]) -> None:
        """Add logits ``[B, C]`` in place of the oldest; of more than the queue takes, the last."""
        logits = self.gather(logits.detach())[-len(self.values) :]
        places = (self.position + torch.arange(len(logits), device=logits.device)) % len(self.values)
        self.values[places] = logits.to(self.values.dtype)
        self.position += len(logits)


@dataclasses.dataclass(kw_only=True, eq=False)
class HybridObjective(EnergyObjective):
    """Learn a classifier, and its class-conditional densities by contrast with a queue; see :func:`hybrid_contrast`."""

    supervised: ClassVar[bool] = True

    classification: float = option(1.0, "weight of the cross-entropy in the loss", low=0)
    contrast: float = option(1.0, "weight of the contrastive term", low=0)
    temperature: float = option(0.1, "temperature of the contrastive term", low=1e-3)
    queue_size: int = option(65_536, "logits of other images that are contrasted", low=1)

    def energy_parts(
        self, shape: tuple[int, ...], classes: int, generator: torch.Generator
    ) -> dict[str, nn.Module]:
        """Return the ``queue``."""
        return {"queue": LogitQueue(self.queue_size, classes, generator)}

    def energy_losses(
        self,
        net: nn.Module,
        parts: Mapping[str, Any],
        rows: Tensor,
        labels: Tensor,
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """Return the cross-entropy and the contrastive term."""
        logits, queue = net(rows), parts["queue"]
        named = F.cross_entropy(logits, labels)
        contrast = hybrid_contrast(logits, labels, queue.values.clone(), self.temperature)
        queue.push(logits)
        loss = self.classification * named + self.contrast * contrast
        return {"loss": loss, "classification": named, "contrast": contrast}
