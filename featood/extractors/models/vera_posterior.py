"""Energy-prior networks with the loss of posterior networks."""

from __future__ import annotations

__all__ = ["VERAPosterior"]

from featood.energies import VeraPosteriorObjective
from featood.extractors.models.registry import register
from featood.extractors.models.vera_model import GeneratedModel


@register(
    "vera-posterior",
    title="Energy-prior network by VERA and uncertain cross-entropy",
    paper="Elflein, Out-of-distribution Detection with Energy-based Models, Master's thesis, arXiv",
    year=2023,
    url="https://arxiv.org/abs/2302.12002",
    needs=("labels",),
)
class VERAPosterior(VeraPosteriorObjective, GeneratedModel):
    """Learn class evidence by uncertain cross-entropy, and its sum by contrast with a generator's samples.

    The concentrations are ``exp(l_c) + 1``: score the logits with ``precision`` or another head on Dirichlet
    distributions, or the column ``energy`` with ``likelihood``. Of ten classes, the weight of the uncertain
    cross-entropy is the published one, which is divided by the number of classes there.
    """
