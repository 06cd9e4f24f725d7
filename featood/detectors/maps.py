"""Detectors that reshape the activations between the backbone of a model and its head."""

from __future__ import annotations

__all__ = ["ASH", "SCALE", "VRA", "RankFeat", "ReAct"]

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from featood.detectors.base import FeatureMapsDetector, RequiresFittingException, Transform
from featood.errors import UsageError
from featood.heads import Head, create_head
from featood.heads.reshaping._reshaping_head import ReshapingHead
from featood.numerics.quantiles import column_quantiles, quantiles

SHARES = [0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]


class _ByHead(FeatureMapsDetector):
    """A detector that applies the function of a head to all activations of each input."""

    def __post_init__(self) -> None:
        self.make_head()  # raises if an option is out of bounds

    def make_head(self) -> Head:
        """Create the head."""
        raise NotImplementedError

    def reshape(self, maps: Tensor, **fitted: Tensor) -> Tensor:
        """Return the reshaped activations ``[B, ...]``; `fitted` is what the head would learn."""
        head = cast(ReshapingHead, self.make_head())
        return head.reshape(maps.flatten(1), fitted).view_as(maps)


@dataclass(eq=False, repr=False)
class ASH(_ByHead, hyperparameters={"percentile": SHARES}):
    """Activation shaping: the heads ``ash-s``, ``ash-p`` and ``ash-b`` on the whole map."""

    variant: str = "ash-s"
    percentile: float = 0.65
    detector: Transform | None = None

    def make_head(self) -> Head:
        """Create the head of the variant."""
        if self.variant not in ("ash-s", "ash-p", "ash-b"):
            raise UsageError(f"ASH has the variants ash-s, ash-p and ash-b, not '{self.variant}'")
        return create_head(self.variant, percentile=self.percentile)


@dataclass(eq=False, repr=False)
class SCALE(_ByHead, hyperparameters={"percentile": SHARES}):
    """Activation scaling: the head ``scale`` on the whole map."""

    percentile: float = 0.65
    detector: Transform | None = None

    def make_head(self) -> Head:
        """Create the head."""
        return create_head("scale", percentile=self.percentile)


@dataclass(eq=False, repr=False)
class ReAct(_ByHead, hyperparameters={"percentile": [0.85, 0.9, 0.95, 0.99]}):
    """Activations clipped at a quantile of the training data, or at a given threshold: the head ``react``."""

    requires_fit = True
    threshold: float | None = None
    percentile: float = 0.9
    detector: Transform | None = None

    def make_head(self) -> Head:
        """Create the head."""
        return create_head("react", percentile=self.percentile)

    def fit_activations(self, activations: Tensor) -> None:
        """Find the threshold."""
        (self.threshold,) = quantiles(lambda: [activations], [self.percentile])

    def reshape(self, maps: Tensor, **fitted: Tensor) -> Tensor:
        """Clip."""
        if self.threshold is None:
            raise RequiresFittingException("call fit() before predict(), or give a threshold")
        return super().reshape(maps, limit=torch.tensor(self.threshold))


@dataclass(eq=False, repr=False)
class VRA(
    _ByHead,
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

    def make_head(self) -> Head:
        """Create the head."""
        return create_head("vra", lower=self.lower_percentile, upper=self.upper_percentile)

    def fit_activations(self, activations: Tensor) -> None:
        """Find the quantiles of each activation."""
        shares = [self.lower_percentile, self.upper_percentile]
        self.limits_ = column_quantiles(lambda: [activations], shares)

    def reshape(self, maps: Tensor, **fitted: Tensor) -> Tensor:
        """Set to zero and clip."""
        if not hasattr(self, "limits_"):
            raise RequiresFittingException()
        lower, upper = self.limits_.to(maps.device)
        return super().reshape(maps, lower=lower, upper=upper)


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
