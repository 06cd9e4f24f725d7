"""Energy-bounded fine-tuning."""

from __future__ import annotations

__all__ = ["EnergyFinetune"]

import math

from featood.errors import UsageError
from featood.heads.open_set._finetuned import BoundedEnergy
from featood.heads.open_set._network import ObjectiveNet
from featood.heads.open_set._objective_head import ObjectiveHead
from featood.heads.registry import register
from featood.options import option


@register(
    "energy-finetune",
    title="Energy-bounded fine-tuning",
    paper="Liu et al., Energy-based Out-of-distribution Detection, NeurIPS",
    year=2020,
    url="https://arxiv.org/abs/2010.03759",
    needs=("features", "labels", "outliers"),
)
class EnergyFinetune(ObjectiveHead):
    """Score a classifier of the features fine-tuned to low energies of known rows and high energies of outliers.

    The bounds of the paper (-23 and -5 or -7) match the energies of its networks. By default, each bound is a quantile
    of the energies after the first phase: three quarters of the known rows lie above `m_in`, and three quarters of
    the outliers, and of the known rows, below `m_out`.
    """

    which: str = option(
        "energy",
        "free energy, 1 - largest probability, or negated largest logit",
        choices=("energy", "msp", "max-logit"),
    )
    weight: float = option(0.1, "weight of the squared distances from the bounds", low=0)
    m_in: float | None = option(None, "upper bound of the energy of known rows (default: a quantile)")
    m_out: float | None = option(None, "lower bound of the energy of outliers (default: a quantile)")
    pretraining: float = option(
        0.5, "share of the epochs, at the start, that train by cross-entropy only", low=0, high=1
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.m_in is not None and self.m_out is not None and self.m_in > self.m_out:
            raise UsageError(
                f"{self.name}: m_in must not exceed m_out, but {self.m_in} is above {self.m_out}"
            )

    def network(self) -> type[ObjectiveNet]:
        """Return the classifier."""
        return BoundedEnergy

    def settings(self) -> dict[str, float]:
        """Return weight, bounds and the share of the first phase."""
        bounds = {"m_in": self.m_in, "m_out": self.m_out}
        return {"weight": self.weight, "pretraining": self.pretraining} | {
            name: math.nan if value is None else value for name, value in bounds.items()
        }
