"""Classifiers that are also trained on class-conditional densities, by contrast with other images."""

from __future__ import annotations

__all__ = ["HDGE"]

from featood.energies import HybridObjective
from featood.extractors.models.energy_model import EnergyModel
from featood.extractors.models.registry import register


@register(
    "hdge",
    title="Hybrid of classifier and class-conditional densities",
    paper="Liu and Abbeel, Hybrid Discriminative-Generative Training via Contrastive Learning, arXiv",
    year=2020,
    url="https://arxiv.org/abs/2007.09070",
    needs=("labels",),
)
class HDGE(HybridObjective, EnergyModel):
    """Learn a classifier, and ``log p(x|y)`` by contrast of the logit of an image's class with those of other images.

    The logits of other images are those of earlier batches, in a queue, and all are scaled to unit length. Score it
    with ``msp`` or ``energy``.
    """
