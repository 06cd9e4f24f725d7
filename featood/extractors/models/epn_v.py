"""Energy-prior networks, whose evidence is learned against a generator."""

from __future__ import annotations

__all__ = ["EPNV"]

from featood.energies import GeneratedEnergyPriorObjective
from featood.extractors.models.registry import register
from featood.extractors.models.vera_model import GeneratedModel
from featood.options import option


@register(
    "epn-v",
    title="Energy-prior network by VERA",
    paper="Elflein, Out-of-distribution Detection with Energy-based Models, Master's thesis, arXiv",
    year=2023,
    url="https://arxiv.org/abs/2302.12002",
    needs=("labels",),
)
class EPNV(GeneratedEnergyPriorObjective, GeneratedModel):
    """Learn class evidence whose sum, the exponential of the negated energy, is contrasted with a generator's samples.

    The concentrations are ``exp(l_c) + 1``: score the logits with ``precision`` or another head on Dirichlet
    distributions, or the column ``energy`` with ``likelihood``. With ``--target 0``, as published, the target of an
    image is its own evidence, and classes may not be learned.
    """

    l2: float = option(1.0, "weight of the squared energies in the loss", low=0)
