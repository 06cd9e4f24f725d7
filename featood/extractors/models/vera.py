"""Energies learned against a generator of images."""

from __future__ import annotations

__all__ = ["VERA"]

from featood.extractors.models.registry import register
from featood.extractors.models.vera_model import GeneratedModel


@register(
    "vera",
    title="Energy against a generator (VERA)",
    paper="Grathwohl et al., No MCMC for Me: Amortized Sampling for Fast and Stable Training of Energy-Based "
    "Models, ICLR",
    year=2021,
    url="https://arxiv.org/abs/2010.04230",
    needs=(),
)
class VERA(GeneratedModel):
    """Learn an energy of images by contrast with samples of an entropy-regularised generator."""
