"""Objectives that fine-tune a classifier after training by cross-entropy alone."""

from __future__ import annotations

__all__ = ["BoundedEnergy", "Constrained", "Finetuned"]

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from featood import losses
from featood.heads.open_set._classifiers import Classifier
from featood.heads.open_set._network import LOGIT_SCORES, Perceptron


class Finetuned(Classifier):
    """Base of the objectives with two phases: cross-entropy for a share `pretraining` of the steps, then another loss.

    Losses of held-out rows are not comparable between the two phases.
    """

    outliers = "needed"
    defaults: ClassVar[Mapping[str, float]] = {"pretraining": 0.5}
    remaining: Tensor

    def make(self, perceptron: Perceptron, generator: torch.Generator) -> None:
        """Make the counter of the remaining updates of the first phase."""
        super().make(perceptron, generator)
        self.register_buffer("remaining", torch.tensor(0))

    def start(self, rows: Tensor, labels: Tensor, epoch: int, steps: int) -> None:
        """Set the number of steps of the first phase."""
        self.remaining.fill_(round(self.settings["pretraining"] * steps))

    def losses(self, rows: Tensor, labels: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the cross-entropy, or the objective once the first phase is over."""
        logits = self.logits(rows)
        named = losses.cross_entropy(logits, labels)
        if int(self.remaining) == 0:
            return self.second(logits, labels, named)
        if self.training:
            self.remaining = self.remaining - 1
            self.observe(logits.detach(), labels, named.detach())
        return {"loss": named, "classification": named}

    def observe(self, logits: Tensor, labels: Tensor, named: Tensor) -> None:
        """Process the logits, labels and cross-entropy of a batch in the first phase."""

    def second(self, logits: Tensor, labels: Tensor, named: Tensor) -> dict[str, Tensor]:
        """Return the losses of the second phase."""
        raise NotImplementedError

    def own_score(self, rows: Tensor) -> Tensor:
        """Return the free energy."""
        return LOGIT_SCORES["energy"](self.logits(rows))


class BoundedEnergy(Finetuned):
    """Push the energies of known rows below one bound, and those of outliers above another.

    A bound that is not given is set to a quantile of the energies in the first batch of the second phase.
    """

    defaults: ClassVar[Mapping[str, float]] = {
        **Finetuned.defaults, "weight": 0.1, "m_in": math.nan, "m_out": math.nan
    }  # fmt: skip
    bounds: Tensor

    def make(self, perceptron: Perceptron, generator: torch.Generator) -> None:
        """Register the bounds, with NaN for those still to be determined."""
        super().make(perceptron, generator)
        self.register_buffer("bounds", torch.tensor([self.settings["m_in"], self.settings["m_out"]]))

    def second(self, logits: Tensor, labels: Tensor, named: Tensor) -> dict[str, Tensor]:
        """Return the cross-entropy and the squared distances from the bounds."""
        energy = LOGIT_SCORES["energy"](logits)
        if self.training and bool(self.bounds.isnan().any()):
            found = torch.stack(losses.energy_bounds(energy.detach(), labels))
            self.bounds = torch.where(self.bounds.isnan(), found, self.bounds)
        bounded = losses.bounded_energy(energy, labels, *self.bounds)
        loss = named + self.settings["weight"] * bounded
        return {"loss": loss, "classification": named, "bounded": bounded}


class Constrained(Finetuned):
    """Minimise missed outliers under constraints on false alarms and on the cross-entropy.

    Rows are flagged by a logistic function of their energy; known rows should lie a margin below its midpoint. The
    multipliers of the two constraints are updated after each epoch.
    """

    defaults: ClassVar[Mapping[str, float]] = {**Finetuned.defaults, "weight": 1.0, "margin": 1.0}
    alarms, tolerance = 0.05, 2.0
    """Largest share of flagged known rows; largest ratio of the cross-entropy to its value after the first phase."""
    multipliers: Tensor
    penalties: Tensor
    violations: Tensor
    seen: Tensor
    epoch: Tensor
    reference: Tensor

    def make(self, perceptron: Perceptron, generator: torch.Generator) -> None:
        """Make the logistic function and the state of the constraints."""
        super().make(perceptron, generator)
        # log slope of the log-odds, and the energy where they are 0
        self.curve = nn.Parameter(torch.zeros(2))
        self.register_buffer("multipliers", torch.zeros(2))
        self.register_buffer("penalties", torch.ones(2))
        self.register_buffer("violations", torch.zeros(2))
        self.register_buffer("seen", torch.tensor(0))
        self.register_buffer("epoch", torch.tensor(1))
        self.register_buffer("reference", torch.tensor(math.nan))

    def start(self, rows: Tensor, labels: Tensor, epoch: int, steps: int) -> None:
        """Record the number of steps of an epoch."""
        super().start(rows, labels, epoch, steps)
        self.epoch.fill_(epoch)

    def observe(self, logits: Tensor, labels: Tensor, named: Tensor) -> None:
        """Average the cross-entropy over about the last epoch, and centre the logistic function on the energies."""
        old = named if bool(self.reference.isnan()) else self.reference
        self.reference = torch.lerp(old, named, 1 / self.epoch)
        with torch.no_grad():
            self.curve[1] = LOGIT_SCORES["energy"](logits).median()

    def second(self, logits: Tensor, labels: Tensor, named: Tensor) -> dict[str, Tensor]:
        """Return the augmented Lagrangian."""
        if self.training and bool(self.reference.isnan()):
            self.observe(logits.detach(), labels, named.detach())
        odds = self.curve[0].exp() * (LOGIT_SCORES["energy"](logits) - self.curve[1])
        margin = self.curve[0].exp() * self.settings["margin"]
        flagged = losses.false_alarms(odds + margin, labels)
        missed = losses.missed_outliers(odds, labels)
        violations = torch.stack([flagged - self.alarms, named - self.tolerance * self.reference])
        constraints = losses.augmented_lagrangian(violations, self.multipliers, self.penalties)
        if self.training:
            self._count(violations.detach())
        loss = self.settings["weight"] * missed + constraints
        return {"loss": loss, "classification": named, "missed": missed, "flagged": flagged}

    def _count(self, violations: Tensor) -> None:
        self.violations, self.seen = self.violations + violations / self.epoch, self.seen + 1
        if int(self.seen) == int(self.epoch):
            updated = losses.updated_multipliers(self.violations, self.multipliers, self.penalties)
            self.multipliers, self.penalties = updated
            self.violations, self.seen = torch.zeros_like(violations), torch.zeros_like(self.seen)
