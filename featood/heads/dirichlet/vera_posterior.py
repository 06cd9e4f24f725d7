"""Energy-prior network with the loss of posterior networks."""

from __future__ import annotations

__all__ = ["VERAPosterior"]

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from featood.energies.dirichlet import uncertain_cross_entropy
from featood.heads.dirichlet.epn_v import EPNV
from featood.heads.registry import register
from featood.numerics.dirichlet import concentrations
from featood.options import option


@register(
    "vera-posterior",
    title="Energy-prior network by VERA and uncertain cross-entropy",
    paper="Elflein, Out-of-distribution Detection with Energy-based Models, Master's thesis, arXiv",
    year=2023,
    url="https://arxiv.org/abs/2302.12002",
    needs=("features", "labels"),
)
class VERAPosterior(EPNV):
    """Score the evidence of a classifier trained by uncertain cross-entropy and against a generator."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "published": {"lr": 1e-4, "generator_lr": 2e-4, "posterior_lr": 2e-4, "schedule": "constant"}
    }
    target: ClassVar[float] = 0.0  # type: ignore[misc]  # no longer an option: the loss has no target

    classification: float = option(10.0, "weight of the classification loss", low=0)
    entropy_weight: float = option(
        1e-4, "weight of the entropy regulariser of the rows' Dirichlet distributions", low=0
    )

    def class_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the uncertain cross-entropy ``[B]``."""
        return uncertain_cross_entropy(concentrations(logits, self.prior), labels)
