"""Detectors that score the outputs of several layers of a model."""

from __future__ import annotations

__all__ = ["Gram", "MultiMahalanobis"]

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from featood.cache import FeatureSet
from featood.detectors.base import HeadDetector, RequiresFittingException, StructuredDetector, Transform
from featood.detectors.features import Mahalanobis
from featood.detectors.utils import TensorBuffer, known_batches
from featood.errors import UsageError
from featood.extractors.gram import gram_sums


def _outputs(layers: Sequence[Transform], x: Tensor) -> list[Tensor]:
    """Return the outputs of layers that are applied one after the other."""
    outputs = []
    for layer in layers:
        x = layer(x)
        outputs.append(x)
    return outputs


@dataclass(eq=False, repr=False)
class MultiMahalanobis(StructuredDetector):
    """Weighted sum of the scores of :class:`Mahalanobis` on the outputs of layers, averaged over positions.

    Parameters
    ----------
    model : list of Module
        Layers; each is applied to the output of the one before it.
    alpha : list of float, optional
        Their weights, by default 1. The head ``multi-mahalanobis`` can learn them.
    """

    requires_fit = True
    model: Sequence[Transform]
    alpha: Sequence[float] | None = None

    def __post_init__(self) -> None:
        if not self.model:
            raise UsageError("MultiMahalanobis needs at least one layer")
        self._parts: list[Mahalanobis] = []

    @torch.no_grad()
    def fit(self, data_loader: Iterable[Any], device: str | torch.device | None = None) -> Self:
        """Fit each layer on the known inputs of a loader."""
        buffer = TensorBuffer()
        for x, y in known_batches(data_loader, self._place(device)):
            buffer.append("y", y)
            for layer, z in enumerate(self._averages(x)):
                buffer.append(layer, z)
        return self.fit_structured([buffer[layer] for layer in range(len(self.model))], buffer["y"])

    @torch.no_grad()
    def predict(self, x: Tensor) -> Tensor:
        """Return the outlier scores ``[B]`` of inputs ``[B, ...]``."""
        if not self._parts:
            raise RequiresFittingException()
        return self.predict_structured(self._averages(self._moved(x)))

    def fit_structured(self, zs: Sequence[Tensor], y: Tensor) -> Self:
        """Fit each layer on its features ``[N, D]`` with labels ``[N]``."""
        self._parts = [Mahalanobis(None).fit_features(z, y) for z in zs]
        return self

    def predict_structured(self, zs: Sequence[Tensor]) -> Tensor:
        """Return the outlier scores ``[B]`` of the features ``[B, D]`` of each layer."""
        if not self._parts:
            raise RequiresFittingException()
        weights = self.alpha or [1.0] * len(self._parts)
        scores = (part.predict_features(z) for part, z in zip(self._parts, zs, strict=True))
        return torch.stack([w * s for w, s in zip(weights, scores, strict=True)]).sum(0)

    def _averages(self, x: Tensor) -> list[Tensor]:
        return [z if z.ndim == 2 else z.flatten(2).mean(2) for z in _outputs(self.model, x)]


@dataclass(eq=False, repr=False)
class Gram(HeadDetector, StructuredDetector):
    """Deviations of Gram matrices of feature maps: the columns and the head ``gram``.

    Parameters
    ----------
    head : callable
        Output of the last layer to logits ``[B, C]``.
    feature_layers : list of Module
        Layers; each is applied to the output of the one before it.
    num_classes : int
        C.
    num_poles_list : sequence of int, optional
        Powers of the maps, by default 1 to the number of layers.
    """

    head_name = "gram"
    requires_fit = True
    head: Transform
    feature_layers: Sequence[Transform]
    num_classes: int
    num_poles_list: Sequence[int] | None = None

    @torch.no_grad()
    def fit(self, data_loader: Iterable[Any], device: str | torch.device | None = None) -> Self:
        """Find the ranges of the known inputs of a loader."""
        buffer = TensorBuffer()
        for x, _ in known_batches(data_loader, self._place(device)):
            for name, values in self._columns(*self._apply(x)).items():
                buffer.append(name, values)
        return self.fit_rows(_as_set(buffer.all()))

    @torch.no_grad()
    def predict(self, x: Tensor) -> Tensor:
        """Return the outlier scores ``[B]`` of inputs ``[B, ...]``."""
        if self.head_ is None:
            raise RequiresFittingException()
        return self.predict_structured(*self._apply(self._moved(x)))

    def predict_structured(self, logits: Tensor, feature_list: Sequence[Tensor]) -> Tensor:
        """Return the outlier scores ``[B]`` of logits ``[B, C]`` and the map of each layer."""
        return self.score_rows(_as_set(self._columns(logits, feature_list)))

    def _apply(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        maps = _outputs(self.feature_layers, x)
        logits = self.head(maps[-1])
        if logits.shape[1] != self.num_classes:
            raise UsageError(f"num_classes is {self.num_classes}, but the logits are {list(logits.shape)}")
        return logits, maps

    def _columns(self, logits: Tensor, maps: Sequence[Tensor]) -> dict[str, Tensor]:
        powers = self.num_poles_list or range(1, len(maps) + 1)
        positions = (z.flatten(1)[:, None] if z.ndim == 2 else z.flatten(2).mT for z in maps)
        sums = {f"layer{layer}.gram": gram_sums(z, list(powers)) for layer, z in enumerate(positions)}
        return {"logits": logits, **sums}


def _as_set(columns: dict[str, Tensor]) -> FeatureSet:
    sums = {name: values for name, values in columns.items() if name != "logits"}
    return FeatureSet(sums, logits=columns["logits"])
