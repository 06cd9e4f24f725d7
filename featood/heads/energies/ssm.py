"""Sliced score matching."""

from __future__ import annotations

__all__ = ["SlicedScoreMatching"]

from typing import Any

import torch
from torch import Tensor

from featood.energies import perturb, sliced_score_matching, warn_if_piecewise_linear
from featood.energies.score_matching import PROJECTIONS
from featood.heads.energies._energy_head import EnergyHead
from featood.heads.registry import register
from featood.options import option


@register(
    "ssm",
    title="Energy by sliced score matching",
    paper="Song et al., Sliced Score Matching: A Scalable Approach to Density and Score Estimation, UAI",
    year=2019,
    url="https://arxiv.org/abs/1905.07088",
    needs=("features",),
)
class SlicedScoreMatching(EnergyHead):
    """Score the energy of a network trained by sliced score matching.

    Features concentrate near a lower-dimensional manifold, where the gradient of the log-density is unbounded. A
    small amount of noise on the rows bounds it, and trains the gradient near the rows and not only at them (Vincent
    2011). The published runs on tables add no noise and use leaky ReLUs, whose second derivatives are zero almost
    everywhere.
    """

    projections: int = option(1, "random directions per row", low=1)
    projection: str = option("gaussian", "distribution of the directions", choices=PROJECTIONS)
    variance_reduced: bool = option(True, "use the full squared gradient norm instead of its projections")
    data_noise: float = option(
        0.2, "standard deviation of the normal noise added to the rows in training", low=0
    )

    def initialize(self, model: Any, rows: Tensor, labels: Tensor) -> None:
        """Warn if the second derivative of the activation is zero almost everywhere."""
        warn_if_piecewise_linear(model)

    def losses(
        self, model: Any, rows: Tensor, labels: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Return the score-matching loss."""
        if self.data_noise:
            rows = perturb(rows, generator, spread=self.data_noise)
        return {
            "loss": sliced_score_matching(
                model.energy,
                rows,
                generator,
                projections=self.projections,
                variance_reduced=self.variance_reduced,
                projection=self.projection,
            )
        }
