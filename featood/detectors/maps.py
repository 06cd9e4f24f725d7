"""Detectors that reshape the activations between two parts of a model: higher means more out-of-distribution."""

from __future__ import annotations

__all__ = ["ASH", "SCALE", "VRA", "FeatureMapsDetector", "RankFeat", "ReAct"]

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self, cast

import torch
from torch import Tensor

from featood.detectors.base import Detector, RequiresFittingException, WithHead, given
from featood.detectors.batches import Model, apply_model, known_batches
from featood.detectors.logits import EnergyBased
from featood.detectors.utils import TensorBuffer, is_known
from featood.errors import UsageError
from featood.heads.reshaping._reshaping_head import ReshapingHead
from featood.numerics.quantiles import column_quantiles, quantiles

SHARES = [0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]


@dataclass(eq=False, repr=False)
class FeatureMapsDetector(Detector):
    """A detector that reshapes the activations between two parts of a model, and scores the logits that result.

    Parameters
    ----------
    backbone : callable or None
        Inputs to activations ``[B, C, H, W]`` or ``[B, D]``.
    head : callable
        Activations to logits.

    Subclasses have a field `detector`, which maps logits to scores; by default it is the energy.

    Examples
    --------
    >>> import torch
    >>> from featood.detectors import ReAct, WideResNet
    >>> model = WideResNet(num_classes=10, depth=10).eval()
    >>> detector = ReAct(model.feature_maps, model.forward_feature_maps)
    >>> detector.fit([(torch.rand(4, 3, 32, 32), torch.zeros(4))])(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2])
    """

    backbone: Model | None
    head: Model | None

    def fit(self, data_loader: Iterable[Any], device: str | torch.device | None = None) -> Self:
        """Fit the detector on the known inputs of a loader, if it has to be fitted."""
        if not self.requires_fit:
            return self
        backbone, buffer = given(self.backbone, "backbone"), TensorBuffer()
        with torch.no_grad():
            for x, _ in known_batches(data_loader, self._place(device)):
                buffer.append("maps", apply_model(backbone, x))
        return self.fit_feature_maps(buffer["maps"])

    def predict(self, x: Any) -> Tensor:
        """Return the outlier scores of inputs ``[B, ...]``."""
        with torch.no_grad():
            return self.predict_feature_maps(apply_model(given(self.backbone, "backbone"), self._moved(x)))

    def fit_feature_maps(self, feature_maps: Tensor, y: Tensor | None = None) -> Self:
        """Fit the detector on activations ``[N, ...]``, if it has to be fitted; y may mark outliers."""
        if self.requires_fit:
            known = feature_maps if y is None else feature_maps[is_known(y)]
            self.fit_activations(known.detach().flatten(1))
        return self

    def predict_feature_maps(self, feature_maps: Tensor) -> Tensor:
        """Return the outlier scores of activations ``[B, ...]``."""
        with torch.no_grad():
            logits = apply_model(given(self.head, "head"), self.reshape(feature_maps))
            return (getattr(self, "detector", None) or EnergyBased.score)(logits)

    def fit_activations(self, activations: Tensor) -> None:
        """Fit on the activations ``[N, ...]`` of known inputs as rows."""

    def reshape(self, maps: Tensor) -> Tensor:
        """Return the reshaped activations ``[B, ...]``."""
        raise NotImplementedError


class _ByHead(WithHead, FeatureMapsDetector):
    """A detector that applies the function of a head to all activations of each input."""

    def reshape(self, maps: Tensor, **fitted: Tensor) -> Tensor:
        """Return the reshaped activations ``[B, ...]``; `fitted` is what the head would learn."""
        head = cast(ReshapingHead, self.make_head())
        return head.reshape(maps.flatten(1), fitted).view_as(maps)


@dataclass(eq=False, repr=False)
class ASH(_ByHead, options={"percentile": "percentile"}, hyperparameters={"percentile": SHARES}):
    """Activation shaping: the heads ``ash-s``, ``ash-p`` and ``ash-b`` on the whole map."""

    variant: str = "ash-s"
    percentile: float = 0.65
    detector: Model | None = None

    @property
    def head_name(self) -> str:  # type: ignore[override]
        """The head of the variant."""
        if self.variant not in ("ash-s", "ash-p", "ash-b"):
            raise UsageError(f"ASH has the variants ash-s, ash-p and ash-b, not '{self.variant}'")
        return self.variant


@dataclass(eq=False, repr=False)
class SCALE(
    _ByHead, head="scale", options={"percentile": "percentile"}, hyperparameters={"percentile": SHARES}
):
    """Activation scaling: the head ``scale`` on the whole map."""

    percentile: float = 0.65
    detector: Model | None = None


@dataclass(eq=False, repr=False)
class ReAct(
    _ByHead,
    head="react",
    options={"percentile": "percentile"},
    hyperparameters={"percentile": [0.85, 0.9, 0.95, 0.99]},
):
    """Activations clipped at a quantile of the training data, or at a given threshold: the head ``react``."""

    requires_fit = True
    threshold: float | None = None
    percentile: float = 0.9
    detector: Model | None = None

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
    head="vra",
    options={"lower": "lower_percentile", "upper": "upper_percentile"},
    hyperparameters={
        "upper_percentile": [0.85, 0.9, 0.95, 0.99],
        "lower_percentile": [0.01, 0.05, 0.1, 0.15],
    },
):
    """Activations below a quantile set to zero, and clipped above another: the head ``vra``."""

    requires_fit = True
    lower_percentile: float = 0.01
    upper_percentile: float = 0.99
    detector: Model | None = None

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

    detector: Model | None = None

    def reshape(self, maps: Tensor) -> Tensor:
        """Remove the component."""
        matrices = maps.flatten(2)
        left, values, right = torch.linalg.svd(matrices, full_matrices=False)
        largest = values[:, :1, None] * left[:, :, :1] @ right[:, :1]
        return (matrices - largest).view_as(maps)
