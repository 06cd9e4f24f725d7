"""HEAT on a Gaussian mixture of the features' spatial standard deviations."""

from __future__ import annotations

__all__ = ["HEATGMMStd"]

from collections.abc import Mapping
from typing import Any, ClassVar

from featood.heads.energies.heat_gmm import HEATGMM
from featood.heads.registry import register
from featood.options import option


@register(
    "heat-gmm-std",
    title="HEAT on a Gaussian mixture of spatial deviations",
    paper="Lafon et al., Hybrid Energy Based Model in the Feature Space for Out-of-Distribution Detection, ICML",
    year=2023,
    url="https://arxiv.org/abs/2305.16966",
    needs=("features", "labels"),
)
class HEATGMMStd(HEATGMM):
    """Score the standard deviation of each channel over the last feature map (pooling ``std``) as `heat-gmm` does."""

    feature: str = option("std", "feature column to use")

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "cifar10": {**HEATGMM.presets["cifar10"], "sgld_steps": 1},
        "cifar100": HEATGMM.presets["cifar100"],
        "imagenet": {**HEATGMM.presets["imagenet"], "sgld_steps": 0, "l2": 40.0},
    }
