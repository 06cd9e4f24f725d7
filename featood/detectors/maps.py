"""Detectors that reshape the activations between the backbone of a model and its head."""

from __future__ import annotations

__all__ = ["ASH", "SCALE", "VRA", "RankFeat", "ReAct"]

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from featood.detectors.base import FeatureMapsDetector, RequiresFittingException, Transform
from featood.errors import UsageError
from featood.heads import create_head
from featood.numerics.quantiles import column_quantiles, quantiles

SHARES = [0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]


def _reshaped(name: str, maps: Tensor, fitted: dict[str, Tensor], **options: Any) -> Tensor:
    """Apply the function of a head to all activations of each input."""
    return create_head(name, **options).reshape(maps.flatten(1), fitted).view_as(maps)  # type: ignore[attr-defined]


@dataclass(eq=False, repr=False)
class ASH(FeatureMapsDetector, hyperparameters={"percentile": SHARES}):
    """Activation shaping: the heads ``ash-s``, ``ash-p`` and ``ash-b`` on the whole map."""

    variant: str = "ash-s"
    percentile: float = 0.65
    detector: Transform | None = None

    def __post_init__(self) -> None:
        if self.variant not in ("ash-s", "ash-p", "ash-b"):
            raise UsageError(f"ASH has the variants ash-s, ash-p and ash-b, not '{self.variant}'")

    def reshape(self, maps: Tensor) -> Tensor:
        """Prune and scale."""
        return _reshaped(self.variant, maps, {}, percentile=self.percentile)


@dataclass(eq=False, repr=False)
class SCALE(FeatureMapsDetector, hyperparameters={"percentile": SHARES}):
    """Activation scaling: the head ``scale`` on the whole map."""

    percentile: float = 0.65
    detector: Transform | None = None

    def reshape(self, maps: Tensor) -> Tensor:
        """Scale."""
        return _reshaped("scale", maps, {}, percentile=self.percentile)


@dataclass(eq=False, repr=False)
class ReAct(FeatureMapsDetector, hyperparameters={"percentile": [0.85, 0.9, 0.95, 0.99]}):
    """Activations clipped at a quantile of the training data, or at a given threshold: the head ``react``."""

    requires_fit = True
    threshold: float | None = None
    percentile: float = 0.9
    detector: Transform | None = None

    def fit_activations(self, activations: Tensor) -> None:
        """Find the threshold."""
        (self.threshold,) = quantiles(lambda: [activations], [self.percentile])

    def reshape(self, maps: Tensor) -> Tensor:
        """Clip."""
        if self.threshold is None:
            raise RequiresFittingException("call fit() before predict(), or give a threshold")
        return _reshaped("react", maps, {"limit": torch.tensor(self.threshold)})


@dataclass(eq=False, repr=False)
class VRA(
    FeatureMapsDetector,
    hyperparameters={
        "upper_percentile": [0.85, 0.9, 0.95, 0.99],
        "lower_percentile": [0.01, 0.05, 0.1, 0.15],
    },
):
    """Activations below a quantile set to zero, and clipped above another: the head ``vra``."""

    requires_fit = True
    lower_percentile: float = 0.01
    upper_percentile: float = 0.99
    detector: Transform | None = None

    def fit_activations(self, activations: Tensor) -> None:
        """Find the quantiles of each activation."""
        shares = [self.lower_percentile, self.upper_percentile]
        self.limits_ = column_quantiles(lambda: [activations], shares)

    def reshape(self, maps: Tensor) -> Tensor:
        """Set to zero and clip."""
        if not hasattr(self, "limits_"):
            raise RequiresFittingException()
        lower, upper = self.limits_.to(maps.device)
        return _reshaped("vra", maps, {"lower": lower, "upper": upper})


@dataclass(eq=False, repr=False)
class RankFeat(FeatureMapsDetector):
    """Maps without their largest singular component, as for the head ``rankfeat``, whose maps are averaged first."""

    detector: Transform | None = None

    def reshape(self, maps: Tensor) -> Tensor:
        """Remove the component."""
        matrices = maps.flatten(2)
        left, values, right = torch.linalg.svd(matrices, full_matrices=False)
        largest = values[:, :1, None] * left[:, :, :1] @ right[:, :1]
        return (matrices - largest).view_as(maps)
