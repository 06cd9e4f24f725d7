"""Detectors that score the outputs of several layers of a model: higher means more out-of-distribution."""

from __future__ import annotations

__all__ = ["NACUE", "Gram", "MultiMahalanobis"]

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from featood.cache import FeatureSet
from featood.detectors.base import (
    GradientDetector,
    HeadDetector,
    RequiresFittingException,
    StructuredDetector,
)
from featood.detectors.batches import Model, apply_model, known_batches
from featood.detectors.features import Mahalanobis
from featood.detectors.utils import TensorBuffer
from featood.errors import UsageError
from featood.extractors.forward import ExtractOptions, Forward, ready
from featood.extractors.gram import gram_sums
from featood.extractors.nac import Coverage
from featood.heads import Head, create_head


def _outputs(layers: Sequence[Model], x: Any) -> list[Tensor]:
    """Return the outputs of layers that are applied one after the other."""
    outputs = []
    for layer in layers:
        x = apply_model(layer, x)
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

    Examples
    --------
    >>> import torch
    >>> from featood.detectors import MultiMahalanobis
    >>> layers = [torch.nn.Conv2d(3, 4, 3), torch.nn.Conv2d(4, 2, 3)]
    >>> train = [(torch.rand(40, 3, 8, 8), torch.arange(40) % 2)]
    >>> MultiMahalanobis(layers).fit(train)(torch.rand(5, 3, 8, 8)).shape
    torch.Size([5])
    """

    requires_fit = True
    model: Sequence[Model]
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
    def predict(self, x: Any) -> Tensor:
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

    def _averages(self, x: Any) -> list[Tensor]:
        return [z if z.ndim == 2 else z.flatten(2).mean(2) for z in _outputs(self.model, x)]


@dataclass(eq=False, repr=False)
class Gram(HeadDetector, StructuredDetector, head="gram"):
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

    Examples
    --------
    >>> import torch
    >>> from featood.detectors import Gram
    >>> convolution = torch.nn.Conv2d(3, 4, 3)
    >>> head = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(4, 2))
    >>> detector = Gram(head, [convolution], num_classes=2)
    >>> detector.fit([(torch.rand(40, 3, 8, 8), torch.arange(40) % 2)])(torch.rand(5, 3, 8, 8)).shape
    torch.Size([5])
    """

    requires_fit = True
    head: Model
    feature_layers: Sequence[Model]
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
    def predict(self, x: Any) -> Tensor:
        """Return the outlier scores ``[B]`` of inputs ``[B, ...]``."""
        if self.head_ is None:
            raise RequiresFittingException()
        return self.predict_structured(*self._apply(self._moved(x)))

    def predict_structured(self, logits: Tensor, feature_list: Sequence[Tensor]) -> Tensor:
        """Return the outlier scores ``[B]`` of logits ``[B, C]`` and the map of each layer."""
        return self.score_rows(_as_set(self._columns(logits, feature_list)))

    def _apply(self, x: Any) -> tuple[Tensor, list[Tensor]]:
        maps = _outputs(self.feature_layers, x)
        logits = apply_model(self.head, maps[-1])
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


class NACUE(GradientDetector):
    """Sum over layers of a model of the neuron activation coverage: the columns and the head ``nac``.

    Parameters
    ----------
    model : Module
        Inputs to logits; it is used in evaluation mode.
    layers : sequence of Module
        Submodules whose outputs are used.
    m_bins, alpha : int, float
        Number of bins and steepness of the sigmoid, for all layers or for each.
    o_star : int
        Number of training inputs at which a bin is covered, for all layers or for each.
    device : str, optional
        Device to move the model to.

    Raises
    ------
    UsageError
        If a layer is no submodule of the model, or the numbers of values and of layers differ.

    References
    ----------
    Liu et al., Neuron Activation Coverage: Rethinking Out-of-distribution Detection and Generalization, ICLR 2024.

    Examples
    --------
    >>> import torch
    >>> from featood.detectors import NACUE
    >>> model = torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    >>> NACUE(model, [model[1]]).fit([(torch.rand(40, 8), torch.zeros(40))])(torch.rand(5, 8)).shape
    torch.Size([5])
    """

    requires_fit = True

    def __init__(
        self, model: nn.Module, layers: Sequence[nn.Module], m_bins: int | Sequence[int] = 50,
        alpha: float | Sequence[float] = 100.0, o_star: int | Sequence[int] = 50,
        device: str | torch.device | None = None,
    ) -> None:  # fmt: skip
        self.model, self.layers = model, list(layers)
        self.options = list(zip(*map(self._each, (m_bins, alpha, o_star)), strict=True))
        self.heads_: list[Head] = []
        self._place(device)

    def fit(self, data_loader: Iterable[Any], device: str | torch.device | None = None) -> Self:
        """Count the states of the known inputs of a loader."""
        place, buffer = self._place(device), TensorBuffer()
        for x, _ in known_batches(data_loader, place):
            for layer, states in enumerate(self._states(x)):
                buffer.append(layer, states)
        self.heads_ = []
        for layer, (bins, alpha, covered) in enumerate(self.options):
            states = buffer[layer]
            full = min(covered / len(states), 1.0)
            head = create_head("nac", features=(STATES,), bins=bins, alpha=alpha, scale=1.0, full=full)
            self.heads_.append(head.fit(_as_column(states)))
        return self

    def predict(self, x: Tensor) -> Tensor:
        """Return the outlier scores ``[B]`` of inputs ``[B, ...]``."""
        if not self.heads_:
            raise RequiresFittingException()
        states = self._states(self._moved(x))
        scores = [head.score(_as_column(z.cpu())) for head, z in zip(self.heads_, states, strict=True)]
        return torch.stack(scores).sum(0).to(x.device if self.device is None else self.device)

    def _each(self, value: Any) -> list[Any]:
        """Return a value for each layer."""
        values = list(value) if isinstance(value, list | tuple) else [value] * len(self.layers)
        if len(values) != len(self.layers):
            raise UsageError(f"give one value for all layers, or {len(self.layers)}, not {len(values)}")
        return values

    def _states(self, x: Tensor) -> list[Tensor]:
        """Return the states ``[B, D]`` of each layer."""
        names = {id(module): name for name, module in self.model.named_modules()}
        if unknown := [type(layer).__name__ for layer in self.layers if id(layer) not in names]:
            raise UsageError(f"the model has no submodule {unknown[0]} that is this layer")
        taps = [names[id(layer)] for layer in self.layers]
        example = x if len(x) > 1 else torch.cat([x, x.flip(-1)])
        with ready(self.model, x.device):
            columns = Forward(self.model, example, ExtractOptions(taps=taps, extras=[Coverage()]))(x, 0)
        return [columns[f"{name}.nac"] for name in taps]


STATES = "states.nac"
"""Name of a column for the head ``nac``."""


def _as_column(states: Tensor) -> FeatureSet:
    # the head asks for a classifier, which only a column without gradients needs
    return FeatureSet({STATES: states}, classifier=(torch.zeros(1, states.shape[1]), torch.zeros(1)))
