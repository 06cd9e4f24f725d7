"""Detectors that score the features of a model."""

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
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from featood.cache import FeatureSet
from featood.detectors.base import FeaturesDetector, ModelNotSetException, RequiresFittingException
from featood.detectors.batches import Model
from featood.errors import UsageError
from featood.heads.reshaping._reshaping_head import ReshapingHead


class Mahalanobis(FeaturesDetector):
    """Squared distance to the nearest class mean, with a tied covariance: the head ``mahalanobis``."""

    head_name = "mahalanobis"
    requires_fit = True


class RMD(FeaturesDetector):
    """Relative Mahalanobis distance: the head ``relative-mahalanobis``."""

    head_name = "relative-mahalanobis"
    requires_fit = True


@dataclass(eq=False, repr=False)
class GMM(FeaturesDetector):
    """Negative log-density of Gaussians of the classes: the head ``gmm``; `reg` is its ridge."""

    head_name = "gmm"
    requires_fit = True
    reg: float = 0.0

    def options(self) -> dict[str, Any]:
        """Return the options of the head."""
        return {"ridge": self.reg}


@dataclass(eq=False, repr=False)
class KNN(FeaturesDetector, hyperparameters={"k": [50, 100, 200, 500, 1000]}):
    """Distance to the k-th neighbour, by default of rows of unit length: the head ``knn``."""

    head_name = "knn"
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
        if self.head is None:
            raise ModelNotSetException("the features need the last layer of the model; head is None")
        with torch.no_grad():
            return dataclasses.replace(super().rows(z, y), logits=self.head(self._moved(z)).to(z.device))


class SHE(_OnLogits):
    """Negated product with the pattern of the predicted class: the head ``she``."""

    head_name = "she"
    requires_fit = True


@dataclass(eq=False, repr=False)
class NNGuide(_OnLogits):
    """Energy guided by the k nearest rows: the head ``nnguide``."""

    head_name = "nnguide"
    requires_fit = True
    k: int = 10

    def options(self) -> dict[str, Any]:
        """Return the options of the head."""
        return {"k": self.k}


class fDBD(_OnLayer):
    """Distance to the decision boundaries: the head ``fdbd``."""

    head_name = "fdbd"
    requires_fit = True


@dataclass(eq=False, repr=False)
class NCI(_OnLayer, hyperparameters={"alpha": [0.0, 0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0]}):
    """Proximity to the weights of the predicted class: the head ``nci``."""

    head_name = "nci"
    requires_fit = True
    alpha: float = 0.0

    def options(self) -> dict[str, Any]:
        """Return the options of the head."""
        return {"alpha": self.alpha}


class PNML(_OnLayer):
    """Regret of the predictive normalised maximum likelihood: the head ``pnml``."""

    head_name = "pnml"
    requires_fit = True


@dataclass(eq=False, repr=False)
class MCM(FeaturesDetector):
    """Softmax of the cosines to text embeddings ``[C, D]``: the head ``mcm``."""

    head_name = "mcm"
    text_embeddings: Tensor
    temperature: float = 1.0

    def options(self) -> dict[str, Any]:
        """Return the options of the head."""
        return {"temperature": self.temperature}

    def rows(self, z: Tensor, y: Tensor | None = None) -> FeatureSet:
        """Return features with the text embeddings as the weight of a classifier."""
        if self.text_embeddings is None:
            raise RequiresFittingException("MCM needs text embeddings of the classes; they are None")
        layer = self.text_embeddings, torch.zeros(len(self.text_embeddings))
        return dataclasses.replace(super().rows(z, y), classifier=layer)


@dataclass(eq=False, repr=False)
class ViM(FeaturesDetector, hyperparameters={"d": [16, 32, 64, 128, 256, 512]}):
    """Virtual logit from the residual outside of d dimensions: the head ``vim``.

    w ``[C, D]`` and b ``[C]`` are weight and bias of the last layer. If D is smaller than d, its half is used.
    """

    head_name = "vim"
    requires_fit = True
    d: int
    w: Tensor
    b: Tensor

    def options(self) -> dict[str, Any]:
        """Return the options of the head."""
        size = self.w.shape[1]
        return {"dim": self.d if self.d <= size else size // 2}

    def rows(self, z: Tensor, y: Tensor | None = None) -> FeatureSet:
        """Return features with weight and bias."""
        return dataclasses.replace(super().rows(z, y), classifier=(self.w.detach(), self.b.detach()))


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
class DICE(_Reshaped, hyperparameters={"p": [0.1, 0.3, 0.5, 0.7, 0.9]}):
    """Logits without the share p of the weights that contributes least: the head ``dice``."""

    head_name = "dice"
    requires_fit = True
    w: Tensor
    b: Tensor
    p: float
    detector: Model | None = None

    def options(self) -> dict[str, Any]:
        """Return the options of the head."""
        return {"p": self.p}

    def rows(self, z: Tensor, y: Tensor | None = None) -> FeatureSet:
        """Return features with weight and bias."""
        return dataclasses.replace(super().rows(z, y), classifier=(self.w.detach(), self.b.detach()))


@dataclass(eq=False, repr=False)
class LTS(_Reshaped, _OnLayer):
    """Logits scaled by the concentration of the features: the head ``lts``."""

    head_name = "lts"
    p: float = 0.05
    detector: Model | None = None

    def options(self) -> dict[str, Any]:
        """Return the options of the head."""
        return {"top": self.p}


def _linear(layer: Any) -> tuple[Tensor, Tensor]:
    """Return weight and bias of a linear layer."""
    if not isinstance(layer, nn.Linear):
        raise UsageError(f"head must be the last layer, a torch.nn.Linear, not {type(layer).__name__}")
    bias = torch.zeros(layer.out_features) if layer.bias is None else layer.bias.detach()
    return layer.weight.detach(), bias
