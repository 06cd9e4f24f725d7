"""Conditional noise-contrastive estimation."""

from __future__ import annotations

__all__ = ["ConditionalNoiseContrastive"]

from collections.abc import Mapping
from typing import Any, ClassVar

from featood.energies import ConditionalNoiseObjective
from featood.heads.energies._energy_head import PLAIN, EnergyHead
from featood.heads.registry import register


@register(
    "conditional-nce",
    title="Energy by conditional noise-contrastive estimation",
    paper="Ceylan and Gutmann, Conditional Noise-Contrastive Estimation of Unnormalised Models, ICML",
    year=2018,
    url="https://arxiv.org/abs/1806.03664",
    needs=("features",),
)
class ConditionalNoiseContrastive(ConditionalNoiseObjective, EnergyHead):
    """Score the energy of a network trained to distinguish each row of features from noisy copies of it.

    Noise of a single scale is informative about the density at one distance from the rows only, so the standard
    deviation of each draw varies from `spread`, the only one of the published code, to `widest`. Each row has several
    draws, in the published code one (the preset ``published``).
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"published": {**PLAIN, "widest": 0.0, "draws": 1}}

    testing_options: ClassVar[Mapping[str, Any]] = {**EnergyHead.testing_options, "spread": 0.5}
