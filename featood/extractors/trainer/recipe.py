"""The form of a recipe."""

from __future__ import annotations

__all__ = ["Recipe"]

from collections.abc import Mapping
from typing import Any, NamedTuple


class Recipe(NamedTuple):
    """A model, an architecture, and how to train, as published; the dataset is not part of it."""

    model: str
    architecture: str
    """Or the name of the model, if it has a network of its own."""
    source: str
    """Where the values are from, and how they differ."""
    architecture_options: Mapping[str, Any] = {}
    options: Mapping[str, Any] = {}
    """Options of the model."""
    training: Mapping[str, Any] = {}
    """Values of :class:`~featood.extractors.trainer.TrainOptions`."""
    tunes: bool = False
    """Whether it continues from a trained network."""
