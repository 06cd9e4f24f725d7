"""VERA with a classifier's free energy."""

from __future__ import annotations

__all__ = ["SupervisedVERA"]

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from featood.energies import classification_loss
from featood.heads.energies.vera import VERA
from featood.heads.registry import register
from featood.options import option


@register(
    "vera-supervised",
    title="Classifier against a generator (VERA)",
    paper="Grathwohl et al., No MCMC for Me: Amortized Sampling for Fast and Stable Training of Energy-Based "
    "Models, ICLR",
    year=2021,
    url="https://arxiv.org/abs/2010.04230",
    needs=("features", "labels"),
)
class SupervisedVERA(VERA):
    """Score the free energy of a classifier trained against samples of an entropy-regularised generator.

    With weights of 1 for entropy and cross-entropy, training maximises the joint likelihood of features and classes.
    The published weight of the cross-entropy, 100, belongs to an entropy weight close to 0; with an entropy weight of 1
    it moves the generator far away from the data.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "published": {
            "lr": 1e-3,
            "generator_lr": 1e-3,
            "posterior_lr": 3e-5,
            "entropy": 1e-4,
            "l2": 0.0,
            "classification": 100.0,
        }
    }

    classification: float = option(1.0, "weight of the cross-entropy in the loss", low=0)

    def outputs(self, classes: int) -> int:
        """Return one output for each class."""
        return classes

    def losses(
        self, model: Any, rows: Tensor, labels: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Add the cross-entropy."""
        parts = super().losses(model, rows, labels, generator)
        named = classification_loss(model, rows, labels)
        return {**parts, "loss": parts["loss"] + self.classification * named, "classification": named}
