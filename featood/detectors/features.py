"""Detectors that score the features of a model: higher means more out-of-distribution.

>>> import torch
>>> from featood.detectors import Mahalanobis
>>> encoder = torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.Tanh())
>>> train = [(torch.rand(30, 8), torch.arange(30) % 3)]
>>> Mahalanobis(encoder).fit(train)(torch.rand(5, 8)).shape
torch.Size([5])
"""

from __future__ import annotations

__all__ = [
    "DICE",
    "GMM",
    "KNN",
    "LTS",
    "MCM",
    "NCI",
    "PNML",
    "RMD",
    "SHE",
    "Mahalanobis",
    "NNGuide",
    "ViM",
    "fDBD",
]

import dataclasses
import warnings
from dataclasses import dataclass
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from featood.cache import FeatureSet
from featood.detectors.base import FeaturesDetector, RequiresFittingException, given
from featood.detectors.batches import Model, apply_model
from featood.errors import UsageError
from featood.heads.reshaping._reshaping_head import ReshapingHead


class Mahalanobis(FeaturesDetector, head="mahalanobis"):
    """Squared distance to the nearest class mean, with a tied covariance: the head ``mahalanobis``."""

    requires_fit = True


class RMD(FeaturesDetector, head="relative-mahalanobis"):
    """Relative Mahalanobis distance: the head ``relative-mahalanobis``."""

    requires_fit = True


@dataclass(eq=False, repr=False)
class GMM(FeaturesDetector, head="gmm", options={"ridge": "reg"}):
    """Negative log-density of Gaussians of the classes: the head ``gmm``; `reg` is its ridge."""

    requires_fit = True
    reg: float = 0.0


@dataclass(eq=False, repr=False)
class KNN(FeaturesDetector, head="knn", hyperparameters={"k": [50, 100, 200, 500, 1000]}):
    """Distance to the k-th neighbour, by default of rows of unit length: the head ``knn``."""

    requires_fit = True
    k: int = 50
    normalize: bool = True

    def options(self) -> dict[str, Any]:
        """Return the options of the head."""
        return {"k": self.k, "space": "l2" if self.normalize else "none"}


@dataclass(eq=False, repr=False)
class _OnLayer(FeaturesDetector):
    """A detector that needs the last layer of the model, which maps features to logits."""

    head: nn.Module

    def rows(self, z: Tensor, y: Tensor | None = None) -> FeatureSet:
        """Return features and labels with weight and bias of the layer."""
        return dataclasses.replace(super().rows(z, y), classifier=_linear(self.head))


@dataclass(eq=False, repr=False)
class _OnLogits(FeaturesDetector):
    """A detector that needs the logits, which any function of the features computes."""

    head: Model

    def rows(self, z: Tensor, y: Tensor | None = None) -> FeatureSet:
        """Return features and labels with the logits of the features."""
        with torch.no_grad():
            logits = apply_model(given(self.head, "head"), self._moved(z)).to(z.device)
        return dataclasses.replace(super().rows(z, y), logits=logits)


class _OnWeights(FeaturesDetector):
    """A detector that needs weight ``[C, D]`` and bias ``[C]`` of the last layer of the model."""

    w: Tensor
    b: Tensor

    def rows(self, z: Tensor, y: Tensor | None = None) -> FeatureSet:
        """Return features and labels with weight and bias."""
        return dataclasses.replace(super().rows(z, y), classifier=(self.w.detach(), self.b.detach()))


class SHE(_OnLogits, head="she"):
    """Negated product with the pattern of the predicted class: the head ``she``; rows classified wrongly are not used.

    Examples
    --------
    >>> import torch
    >>> from featood.detectors import SHE
    >>> encoder, last, x = torch.nn.Linear(8, 4), torch.nn.Linear(4, 2), torch.rand(30, 8)
    >>> SHE(encoder, last).fit([(x, last(encoder(x)).argmax(1))])(torch.rand(5, 8)).shape
    torch.Size([5])
    """

    requires_fit = True


@dataclass(eq=False, repr=False)
class NNGuide(_OnLogits, head="nnguide", options={"k": "k"}):
    """Energy guided by the k nearest rows: the head ``nnguide``."""

    requires_fit = True
    k: int = 10


class fDBD(_OnLayer, head="fdbd"):
    """Distance to the decision boundaries: the head ``fdbd``."""

    requires_fit = True


@dataclass(eq=False, repr=False)
class NCI(
    _OnLayer,
    head="nci",
    options={"alpha": "alpha"},
    hyperparameters={"alpha": [0.0, 0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0]},
):
    """Proximity to the weights of the predicted class: the head ``nci``."""

    requires_fit = True
    alpha: float = 0.0


class PNML(_OnLayer, head="pnml"):
    """Regret of the predictive normalised maximum likelihood: the head ``pnml``."""

    requires_fit = True


@dataclass(eq=False, repr=False)
class MCM(FeaturesDetector, head="mcm", options={"temperature": "temperature"}):
    """Softmax of the cosines to text embeddings ``[C, D]``: the head ``mcm``."""

    text_embeddings: Tensor
    temperature: float = 1.0

    def rows(self, z: Tensor, y: Tensor | None = None) -> FeatureSet:
        """Return features with the text embeddings as the weight of a classifier."""
        if self.text_embeddings is None:
            raise RequiresFittingException("MCM needs text embeddings of the classes; they are None")
        layer = self.text_embeddings, torch.zeros(len(self.text_embeddings))
        return dataclasses.replace(super().rows(z, y), classifier=layer)


@dataclass(eq=False, repr=False)
class ViM(_OnWeights, head="vim", hyperparameters={"d": [16, 32, 64, 128, 256, 512]}):
    """Virtual logit from the residual outside of d dimensions: the head ``vim``.

    w ``[C, D]`` and b ``[C]`` are weight and bias of the last layer. If D is smaller than d, its half is used, with a
    warning.

    Examples
    --------
    >>> import torch
    >>> from featood.detectors import ViM
    >>> encoder, last = torch.nn.Linear(8, 6), torch.nn.Linear(6, 3)
    >>> detector = ViM(encoder, d=2, w=last.weight, b=last.bias)
    >>> detector.fit([(torch.rand(30, 8), torch.arange(30) % 3)])(torch.rand(5, 8)).shape
    torch.Size([5])
    """

    requires_fit = True
    d: int
    w: Tensor
    b: Tensor

    def options(self) -> dict[str, Any]:
        """Return the options of the head."""
        size = self.w.shape[1]
        return {"dim": self.d if self.d <= size else size // 2}

    def fit_rows(self, rows: FeatureSet) -> Self:
        """Fit the head; rows with a negative label are ignored."""
        if (size := self.w.shape[1]) < self.d:
            warnings.warn(
                f"the features have {size} dimensions, and d = {self.d}: {size // 2} are used", stacklevel=4
            )
        return super().fit_rows(rows)


class _Reshaped(FeaturesDetector):
    """A detector that changes the logits, and scores them by the energy or by `detector`."""

    detector: Model | None

    def score_rows(self, rows: FeatureSet) -> Tensor:
        """Score the logits."""
        scores = super().score_rows(rows)
        if self.detector is None:
            return scores
        head = cast(ReshapingHead, self.head_)
        return cast(Tensor, self.detector(head.logits(rows.to_torch().feature()[:], dict(head.state))))


@dataclass(eq=False, repr=False)
class DICE(
    _Reshaped, _OnWeights, head="dice", options={"p": "p"}, hyperparameters={"p": [0.1, 0.3, 0.5, 0.7, 0.9]}
):
    """Logits without the share p of the weights that contributes least: the head ``dice``."""

    requires_fit = True
    w: Tensor
    b: Tensor
    p: float
    detector: Model | None = None


@dataclass(eq=False, repr=False)
class LTS(_Reshaped, _OnLayer, head="lts", options={"top": "p"}):
    """Logits scaled by the concentration of the features: the head ``lts``."""

    p: float = 0.05
    detector: Model | None = None


def _linear(layer: Any) -> tuple[Tensor, Tensor]:
    """Return weight and bias of a linear layer."""
    if not isinstance(given(layer, "head"), nn.Linear):
        raise UsageError(f"head must be the last layer, a torch.nn.Linear, not {type(layer).__name__}")
    bias = torch.zeros(layer.out_features) if layer.bias is None else layer.bias.detach()
    return layer.weight.detach(), bias
