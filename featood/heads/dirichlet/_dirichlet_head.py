"""Base class of the heads of this family: logits as the logarithms of Dirichlet concentrations."""

from __future__ import annotations

__all__ = ["DirichletHead"]

import dataclasses
from typing import Any

from torch import Tensor

from featood.heads.base.logit_head import LogitHead
from featood.numerics.dirichlet import concentrations
from featood.options import option


@dataclasses.dataclass(kw_only=True, eq=False)
class DirichletHead(LogitHead):
    """A head that scores ``Dir(alpha)`` with ``alpha_c = exp(l_c) + prior``."""

    prior: float = option(
        1.0, "added to each concentration; 0 for the exponentials of the logits alone", low=0
    )

    def score_logits(self, logits: Tensor, fitted: Any) -> Tensor:
        """Score logits by the Dirichlet distribution that they parametrise."""
        return self.score_concentrations(concentrations(logits.double(), self.prior))

    def score_concentrations(self, log_alpha: Tensor) -> Tensor:
        """Score log-concentrations ``[B, C]`` to ``[B]``."""
        raise NotImplementedError
