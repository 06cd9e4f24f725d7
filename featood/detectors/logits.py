"""Detectors that score the logits of a model: higher means more out-of-distribution."""

from __future__ import annotations

__all__ = [
    "GEN",
    "EnergyBased",
    "Entropy",
    "KLMatching",
    "MaxLogit",
    "MaxSoftmax",
    "NegativeEnergy",
    "OpenMax",
    "TemperatureScaling",
    "WeightedEBO",
    "temperature_calibration",
]

from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from featood.detectors.base import LogitsDetector
from featood.detectors.utils import as_rows, from_rows, is_known
from featood.losses.virtual_outliers import weighted_energy


@dataclass(eq=False, repr=False)
class EnergyBased(LogitsDetector, head="energy", options={"temperature": "t"}):
    """Free energy ``-t logsumexp(logits / t)``: the head ``energy``.

    Examples
    --------
    >>> import torch
    >>> from featood.detectors import EnergyBased
    >>> EnergyBased(torch.nn.Linear(8, 3))(torch.rand(5, 8)).shape
    torch.Size([5])
    """

    t: float = 1.0


NegativeEnergy = EnergyBased
"""The name of early versions; scores of both are higher for outliers."""


@dataclass(eq=False, repr=False)
class MaxSoftmax(EnergyBased, head="msp"):
    """Negated largest probability at temperature t: the head ``msp``."""


class MaxLogit(LogitsDetector, head="max-logit"):
    """Negated largest logit: the head ``max-logit``."""


class Entropy(LogitsDetector, head="entropy"):
    """Entropy of the probabilities: the head ``entropy``."""


@dataclass(eq=False, repr=False)
class GEN(
    LogitsDetector,
    head="gen",
    hyperparameters={"gamma": [0.01, 0.1, 0.5, 1], "M": [10, 50, 100, 200, 500, 1000]},
):
    """Generalised entropy: the head ``gen``, with the sum over the M largest probabilities, or all."""

    gamma: float = 0.1
    M: int | None = None

    def options(self) -> dict[str, Any]:
        """Return the options of the head."""
        return {"gamma": self.gamma, "top": self.M or 0}


@dataclass(eq=False, repr=False)
class WeightedEBO(LogitsDetector):
    """Energy ``-log sum_c max(w_c, 0) exp(l_c)`` with learned weights ``[C]``, such as those of :class:`VOSRegLoss`."""

    weights: Tensor | nn.Linear

    def __post_init__(self) -> None:
        """Do nothing: no head has given weights."""

    def predict_logits(self, logits: Tensor) -> Tensor:
        """Return the outlier scores ``[B]`` or ``[B, H, W]`` of logits."""
        weights = self.weights.weight if isinstance(self.weights, nn.Linear) else self.weights
        with torch.no_grad():
            scores = weighted_energy(as_rows(logits).double(), weights.to(logits).flatten().relu().log())
        return from_rows(scores, logits)

    predict_features = predict_logits


class KLMatching(LogitsDetector, head="kl-matching"):
    """Divergence from the nearest mean posterior: the head ``kl-matching``."""

    requires_fit = True

    def fit_logits(self, logits: Tensor, y: Tensor | None = None) -> Self:
        """Fit the detector on logits ``[N, C]``; labels only tell which rows are known."""
        return super().fit_logits(logits if y is None else logits[is_known(y)])

    fit_features = fit_logits

    @property
    def dists(self) -> Tensor:
        """The mean posteriors ``[K, C]`` of the predicted classes."""
        return torch.empty(0) if self.head_ is None else self.head_.state["log_templates"].exp()


class TemperatureScaling(LogitsDetector, head="temperature-scaling"):
    """Probabilities at the temperature t that fits validation data: the head ``temperature-scaling``.

    The score is ``log(1 - max softmax(logits / t))``, which ranks like the negated largest probability.

    Examples
    --------
    >>> import torch
    >>> from featood.detectors import TemperatureScaling
    >>> logits, y = torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0]]), torch.tensor([0, 1, 1])
    >>> detector = TemperatureScaling(None).fit_logits(logits, y)
    >>> detector.t > 1, detector.predict_logits(logits).shape
    (True, torch.Size([3]))
    """

    requires_fit = True

    @property
    def t(self) -> float:
        """The temperature, 1 before the fit."""
        return 1.0 if self.head_ is None else float(self.head_.state["temperature"])


def temperature_calibration(logits: Tensor, labels: Tensor) -> float:
    """Return the temperature with the smallest cross-entropy of logits ``[N, C]`` with labels ``[N]``."""
    return TemperatureScaling(None).fit_logits(logits, labels).t


@dataclass(eq=False, repr=False)
class OpenMax(
    LogitsDetector,
    head="openmax",
    options={"tail": "tailsize", "alpha": "alpha", "euclidean": "euclid_weight"},
    hyperparameters={
        "tailsize": [10, 20, 30, 40, 50],
        "alpha": [1, 3, 5, 10, 15, 20],
        "euclid_weight": [0.0, 0.25, 0.5, 0.75, 1.0],
    },
):
    """Probability of an added class "unknown": the head ``openmax``."""

    requires_fit = True
    tailsize: int = 25
    alpha: int = 10
    euclid_weight: float = 1.0
