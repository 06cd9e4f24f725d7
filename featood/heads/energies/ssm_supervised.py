"""Sliced score matching of a classifier's free energy."""

from __future__ import annotations

__all__ = ["SupervisedSlicedScoreMatching"]

from typing import Any

import torch
from torch import Tensor

from featood.energies import classification_loss
from featood.heads.energies.ssm import SlicedScoreMatching
from featood.heads.registry import register
from featood.options import option


@register(
    "ssm-supervised",
    title="Classifier with sliced score matching",
    paper="Song et al., Sliced Score Matching: A Scalable Approach to Density and Score Estimation, UAI",
    year=2019,
    url="https://arxiv.org/abs/1905.07088",
    needs=("features", "labels"),
)
class SupervisedSlicedScoreMatching(SlicedScoreMatching):
    """Score the free energy of a classifier trained by cross-entropy and sliced score matching."""

    classification: float = option(1.0, "weight of the cross-entropy in the loss", low=0)

    def outputs(self, classes: int) -> int:
        """Return one output for each class."""
        return classes

    def losses(
        self, model: Any, rows: Tensor, labels: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Return the score-matching and classification losses."""
        matching = super().losses(model, rows, labels, generator)["loss"]
        named = classification_loss(model, rows, labels)
        return {"loss": matching + self.classification * named, "classification": named}
