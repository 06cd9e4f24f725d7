"""Sliced score matching."""

from __future__ import annotations

__all__ = ["SlicedScoreMatching"]

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from featood.energies import ScoreMatchingObjective, warn_if_piecewise_linear
from featood.heads.energies._energy_head import PLAIN, EnergyHead
from featood.heads.registry import register


@register(
    "ssm",
    title="Energy by sliced score matching",
    paper="Song et al., Sliced Score Matching: A Scalable Approach to Density and Score Estimation, UAI",
    year=2019,
    url="https://arxiv.org/abs/1905.07088",
    needs=("features",),
)
class SlicedScoreMatching(ScoreMatchingObjective, EnergyHead):
    """Score the energy of a network trained by sliced score matching.

    Features concentrate near a lower-dimensional manifold, where the gradient of the log-density is unbounded. A
    small amount of noise on the rows bounds it, and trains the gradient near the rows and not only at them (Vincent
    2011). The published runs on tables add no noise (the preset ``published``) and use leaky ReLUs, whose second
    derivatives are zero almost everywhere (the preset keeps smooth activations).
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"published": {**PLAIN, "data_noise": 0.0}}

    def start_modules(self, model: Any, rows: Tensor, labels: Tensor) -> None:
        """Warn if the second derivative of the activation is zero almost everywhere."""
        warn_if_piecewise_linear(model)
