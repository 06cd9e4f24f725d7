"""Contrastive divergence with a replay buffer."""

from __future__ import annotations

__all__ = ["ContrastiveDivergence"]

from collections.abc import Mapping
from typing import Any, ClassVar

from featood.energies import ContrastiveObjective
from featood.heads.energies._energy_head import PUBLISHED, SampledHead
from featood.heads.registry import register


@register(
    "cd",
    title="Energy by contrastive divergence",
    paper="Du and Mordatch, Implicit Generation and Modeling with Energy Based Models, NeurIPS",
    year=2019,
    url="https://arxiv.org/abs/1903.08689",
    needs=("features",),
)
class ContrastiveDivergence(ContrastiveObjective, SampledHead):
    """Score the energy of a network trained to contrast the features with its own Langevin samples.

    The defaults are 20 short steps with the noise of exact Langevin dynamics, and a small weight of the squared
    energies; the preset ``published`` has 100 long steps with little noise, which do not sample from a density, and a
    weight of 1. The networks have smooth activations, the published ones leaky ReLUs.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"published": PUBLISHED}
