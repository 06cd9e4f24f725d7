"""Energy-prior networks, whose evidence is learned from Langevin samples."""

from __future__ import annotations

__all__ = ["EPNM"]

from featood.energies import EnergyPriorObjective
from featood.extractors.models.energy_model import SampledModel
from featood.extractors.models.registry import register


@register(
    "epn-m",
    title="Energy-prior network by contrastive divergence",
    paper="Elflein, Out-of-distribution Detection with Energy-based Models, Master's thesis, arXiv",
    year=2023,
    url="https://arxiv.org/abs/2302.12002",
    needs=("labels",),
)
class EPNM(EnergyPriorObjective, SampledModel):
    """Learn class evidence whose sum, the exponential of the negated energy, is contrasted with Langevin samples.

    The concentrations are ``exp(l_c) + 1``: score the logits with ``precision``, ``mutual-information`` or another head
    on Dirichlet distributions, or the column ``energy`` with ``likelihood``. The uncertain cross-entropy is a mean over
    images; the published one is also divided by the number of classes (``--classification 0.1`` for ten).
    """
