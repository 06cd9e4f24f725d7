"""Conditional noise-contrastive estimation."""

from __future__ import annotations

__all__ = ["ConditionalNoiseContrastive"]

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from featood.energies import conditional_noise_contrastive
from featood.heads.energies._energy_head import EnergyHead
from featood.heads.registry import register
from featood.options import option


@register(
    "conditional-nce",
    title="Energy by conditional noise-contrastive estimation",
    paper="Ceylan and Gutmann, Conditional Noise-Contrastive Estimation of Unnormalised Models, ICML",
    year=2018,
    url="https://arxiv.org/abs/1806.03664",
    needs=("features",),
)
class ConditionalNoiseContrastive(EnergyHead):
    """Score the energy of a network trained to distinguish each row of features from noisy copies of it.

    Noise of a single scale is informative about the density at one distance from the rows only, so the standard
    deviation of each draw varies from `spread`, the only one of the published code, to `widest`. Each row has several
    draws, in the published code one.
    """

    testing_options: ClassVar[Mapping[str, Any]] = {**EnergyHead.testing_options, "spread": 0.5}

    spread: float = option(0.1, "smallest standard deviation of the noise", low=1e-6)
    widest: float = option(1.0, "largest standard deviation of the noise; 0 for `spread` only", low=0)
    draws: int = option(5, "noisy copies of each row", low=1)
    size_penalty: float = option(0.0, "weight of the penalty on the magnitude of the energies", low=0)

    def losses(
        self, model: Any, rows: Tensor, labels: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Return the loss of distinguishing rows from their noisy copies."""
        return conditional_noise_contrastive(
            model.energy,
            rows,
            generator,
            spread=self.spread,
            widest=self.widest,
            draws=self.draws,
            size_penalty=self.size_penalty,
        )
