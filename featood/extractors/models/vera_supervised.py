"""Classifiers whose free energy is learned against a generator."""

from __future__ import annotations

__all__ = ["SupervisedVERA"]

from featood.energies import SupervisedVeraObjective
from featood.extractors.models.registry import register
from featood.extractors.models.vera_model import GeneratedModel
from featood.options import option


@register(
    "vera-supervised",
    title="Classifier against a generator (VERA)",
    paper="Grathwohl et al., No MCMC for Me: Amortized Sampling for Fast and Stable Training of Energy-Based "
    "Models, ICLR",
    year=2021,
    url="https://arxiv.org/abs/2010.04230",
    needs=("labels",),
)
class SupervisedVERA(SupervisedVeraObjective, GeneratedModel):
    """Learn a classifier, and its free energy by contrast with samples of an entropy-regularised generator.

    The published weight of the cross-entropy, 100, belongs to the small weight of the generator's entropy.
    """

    classification: float = option(100.0, "weight of the cross-entropy in the loss", low=0)
