"""Base of the trained heads of this family: a network that predicts evidence for each class, and its scores."""

from __future__ import annotations

__all__ = ["EvidenceHead"]

from typing import Any

from torch import Tensor

from featood.heads.dirichlet._scores import dirichlet_score
from featood.numerics.dirichlet import concentrations


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
