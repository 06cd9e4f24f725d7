"""Energies learned by contrast with Langevin samples."""

from __future__ import annotations

__all__ = ["ContrastiveDivergence"]

from featood.energies import ContrastiveObjective
from featood.extractors.models.energy_model import SampledModel
from featood.extractors.models.registry import register


@register(
    "cd",
    title="Energy by contrastive divergence",
    paper="Du and Mordatch, Implicit Generation and Modeling with Energy Based Models, NeurIPS",
    year=2019,
    url="https://arxiv.org/abs/1903.08689",
    needs=(),
)
class ContrastiveDivergence(ContrastiveObjective, SampledModel):
    """Learn an energy of images by contrast with its own Langevin samples.

    Minimise ``mean E(x) - mean E(x~) + l2 (mean E(x)^2 + mean E(x~)^2)`` over images x and samples x~ of persistent
    chains. A smaller buffer of chains (``--buffer-size 2000``) converges in fewer updates.
    """
