"""A network together with what it minimises: the common shape of all open-set losses."""

from __future__ import annotations

__all__ = ["LOGIT_SCORES", "ObjectiveNet", "Perceptron", "in_chunks"]

from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from featood.numerics.softmax import log_probabilities

Perceptron = Callable[[int], nn.Sequential]
"""Makes an untrained perceptron with that many outputs, whose last layer is linear."""

LOGIT_SCORES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "msp": lambda logits: log_probabilities(logits)[1].amin(1).exp(),
    "max-logit": lambda logits: -logits.amax(1),
    "energy": lambda logits: -logits.logsumexp(1),
}


CHUNK = 8192


def in_chunks(embed: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    """Embed many rows a few at a time, without gradients."""
    with torch.no_grad():
        return torch.cat([embed(part) for part in rows.split(CHUNK)])


class ObjectiveNet(nn.Module):
    """Base of the networks; whatever an objective learns or remembers is a parameter or buffer of its network.

    Parameters
    ----------
    perceptron : callable
        Makes the layers.
    classes : int
        Number of classes.
    settings : mapping
        Values in place of the objective's :attr:`defaults`.
    generator : torch.Generator
        Source of what else is random in the untrained network.
    """

    outliers: ClassVar[str] = "ignored"
    """Whether outliers among the rows are ``ignored``, ``used`` or ``needed``."""
    classifies: ClassVar[bool] = True
    """Whether it tells classes apart, so that there are logits to score."""
    defaults: ClassVar[Mapping[str, float]] = {}
    """Settings of the objective, with the values of its paper or such as suit cached features."""

    def __init__(
        self,
        perceptron: Perceptron,
        classes: int,
        settings: Mapping[str, float],
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.classes = classes
        self.settings = {**self.defaults, **settings}
        self.make(perceptron, generator)

    def make(self, perceptron: Perceptron, generator: torch.Generator) -> None:
        """Make layers, and parameters and buffers for whatever the objective learns or remembers."""

    def start(self, rows: Tensor, labels: Tensor, epoch: int, steps: int) -> None:
        """Set what depends on the known rows ``[N, D]`` and labels ``[N]``, and on the steps of an epoch and in all."""

    def losses(self, rows: Tensor, labels: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the losses of a batch by name; rows with a negative label are outliers."""
        raise NotImplementedError

    def logits(self, rows: Tensor) -> Tensor | None:
        """Return class logits ``[B, C]``; None where the objective tells no classes apart."""
        raise NotImplementedError

    def own_score(self, rows: Tensor) -> Tensor:
        """Return the score that goes with the objective ``[B]``."""
        raise NotImplementedError

    def score(self, which: str, rows: Tensor) -> Tensor:
        """Return the score of a name ``[B]``: the objective's own for ``auto``, else one of its logits."""
        if which == "auto":
            return self.own_score(rows)
        logits = self.logits(rows)
        assert logits is not None, "an objective that tells no classes apart has its own score alone"
        return LOGIT_SCORES[which](logits)
