"""A network together with its loss: the common interface of all open-set objectives."""

from __future__ import annotations

__all__ = ["LOGIT_SCORES", "ObjectiveNet", "Perceptron", "in_chunks"]

from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from featood.numerics.softmax import log_probabilities

Perceptron = Callable[[int], nn.Sequential]
"""Creates an untrained perceptron with the given number of outputs and a linear last layer."""

LOGIT_SCORES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "msp": lambda logits: log_probabilities(logits)[1].amin(1).exp(),
    "max-logit": lambda logits: -logits.amax(1),
    "energy": lambda logits: -logits.logsumexp(1),
}


CHUNK = 8192


def in_chunks(embed: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    """Embed rows in chunks, without gradients."""
    with torch.no_grad():
        return torch.cat([embed(part) for part in rows.split(CHUNK)])


class ObjectiveNet(nn.Module):
    """Base of the networks; all learned values and state of an objective are parameters or buffers of its network.

    Parameters
    ----------
    perceptron : callable
        Makes the layers.
    classes : int
        Number of classes.
    settings : mapping
        Values that override the objective's :attr:`defaults`.
    generator : torch.Generator
        Source of further random numbers in the untrained network.
    """

    outliers: ClassVar[str] = "ignored"
    """Whether outliers among the rows are ``ignored``, ``used`` or ``needed``."""
    classifies: ClassVar[bool] = True
    """Whether it classifies, so that there are logits to score."""
    defaults: ClassVar[Mapping[str, float]] = {}
    """Settings of the objective, with the values of its paper or values suited to cached features."""

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
        """Make the layers, parameters and buffers of the objective."""

    def start(self, rows: Tensor, labels: Tensor, epoch: int, steps: int) -> None:
        """Set values that depend on known rows ``[N, D]``, labels ``[N]``, and steps per epoch and in total."""

    def losses(self, rows: Tensor, labels: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the losses of a batch by name; rows with a negative label are outliers."""
        raise NotImplementedError

    def logits(self, rows: Tensor) -> Tensor | None:
        """Return class logits ``[B, C]``, or None if the objective does not classify."""
        raise NotImplementedError

    def own_score(self, rows: Tensor) -> Tensor:
        """Return the objective's own score ``[B]``."""
        raise NotImplementedError

    def score(self, which: str, rows: Tensor) -> Tensor:
        """Return a score by name ``[B]``: the objective's own for ``auto``, otherwise a score of its logits."""
        if which == "auto":
            return self.own_score(rows)
        logits = self.logits(rows)
        assert logits is not None, "an objective without classes has only its own score"
        return LOGIT_SCORES[which](logits)
