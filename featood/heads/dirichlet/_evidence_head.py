"""Base of the trained heads of this family: a network that predicts evidence for each class, and its scores."""

from __future__ import annotations

__all__ = ["EnergyEvidenceHead", "EvidenceHead"]

import math
from typing import Any

from torch import Tensor

from featood.energies import TiltedNet
from featood.heads.dirichlet._scores import dirichlet_score
from featood.numerics.dirichlet import concentrations

EVIDENCE = 100.0
"""Geometric mean of the evidence for the classes of the training rows, before training; as prior networks' target."""


class EvidenceHead:
    """Mixin of a trained head with an option ``which``: its scores are those of ``Dir(evidence + prior)``."""

    which: str
    prior: float = 1.0

    def log_evidence(self, model: Any, rows: Tensor) -> Tensor:
        """Return the logarithm of the evidence for each class ``[B, C]``; by default the network's output."""
        return model(rows)

    def score_rows(self, model: Any, rows: Tensor) -> Tensor:
        """Return the score `which` ``[B]``."""
        return dirichlet_score(self.which, self.log_evidence(model, rows), self.prior)

    def classify_rows(self, model: Any, rows: Tensor) -> Tensor:
        """Return the log-concentrations ``[B, C]``, whose softmax is the mean of the distribution."""
        return concentrations(self.log_evidence(model, rows), self.prior)


class EnergyEvidenceHead(EvidenceHead):
    """Mixin of a head whose evidence is the exponential of logits, with an energy in addition to a base."""

    def start_modules(self, model: Any, rows: Tensor, labels: Tensor) -> None:
        """Move the log-densities of the base to where evidence is neither negligible nor certain."""
        super().start_modules(model, rows, labels)  # type: ignore[misc]
        if isinstance(model.net, TiltedNet):
            base = model.net.base
            known = base(rows)
            own = known.gather(1, labels[:, None]) if known.shape[1] > 1 else known
            base.peak += math.log(EVIDENCE) - own.mean()
