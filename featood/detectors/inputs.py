"""Detectors that need more of a model than one forward pass: gradients, or several passes with dropout."""

from __future__ import annotations

__all__ = ["MCD", "NACUE", "ODIN", "GradNorm", "GradUncertainty", "MahalanobisODIN", "odin_preprocessing"]

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from featood.cache import FeatureSet
from featood.detectors.base import (
    Detector,
    GradientDetector,
    ModelNotSetException,
    RequiresFittingException,
    Transform,
)
from featood.detectors.features import Mahalanobis
from featood.detectors.logits import MaxSoftmax
from featood.detectors.utils import TensorBuffer, as_rows, known_batches
from featood.errors import UsageError
from featood.extractors.dropout import dropping, seeded
from featood.extractors.forward import ExtractOptions, Forward, ready
from featood.extractors.nac import Coverage
from featood.extractors.perturb import perturbed
from featood.heads import Head, create_head
from featood.numerics.mixtures import mean_log_probabilities, probability_variance

Criterion = Callable[[Tensor, Tensor], Tensor]


def odin_preprocessing(
    model: Callable[[Tensor], Tensor],
    x: Tensor,
    y: Tensor | None = None,
    criterion: Criterion | None = None,
    eps: float = 0.0014,
    temperature: float = 1000.0,
    norm_std: Sequence[float] | None = None,
) -> Tensor:
    """Return inputs after a step that decreases a loss.

    Parameters
    ----------
    model : callable
        Inputs to logits.
    x : Tensor
        ``[B, ...]``.
    y : Tensor, optional
        Targets ``[B]``; by default the predicted classes.
    criterion : callable, optional
        Loss of logits, divided by the temperature, and targets; by default the cross-entropy.
    eps, temperature : float
        Step size and temperature.
    norm_std : sequence of float, optional
        Divisor of the step of each channel, if the inputs are normalised.
    """

    def loss(inputs: Tensor) -> Tensor:
        logits = model(inputs) / temperature
        return (criterion or F.cross_entropy)(logits, logits.argmax(1) if y is None else y)

    return perturbed(loss, x, eps / torch.tensor(norm_std or [1.0]))


@dataclass(eq=False, repr=False)
class ODIN(GradientDetector, hyperparameters={"temperature": [1, 10, 100, 1000], "eps": [0.0014, 0.0028]}):
    """Negated largest tempered probability after a step towards the predicted class: column and head ``odin``."""

    model: Transform | None
    criterion: Criterion | None = None
    eps: float = 0.0014
    temperature: float = 1000.0
    norm_std: Sequence[float] | None = None

    def predict(self, x: Tensor) -> Tensor:
        """Return the outlier scores ``[B]`` of inputs ``[B, ...]``."""
        if self.model is None:
            raise ModelNotSetException()
        moved = odin_preprocessing(
            self.model, self._moved(x), None, self.criterion, self.eps, self.temperature, self.norm_std
        )
        return MaxSoftmax(self.model, self.temperature)(moved)


@dataclass(eq=False, repr=False)
class MahalanobisODIN(Mahalanobis):
    """:class:`Mahalanobis` of inputs after a step that decreases their distance."""

    eps: float = 0.002
    norm_std: Sequence[float] | None = None

    def predict(self, x: Tensor) -> Tensor:
        """Return the outlier scores ``[B]`` of inputs ``[B, ...]``."""
        head, encoder = self.head_, self.encoder
        if encoder is None:
            raise ModelNotSetException()
        if head is None:
            raise RequiresFittingException()

        def distance(inputs: Tensor) -> Tensor:
            rows = encoder(inputs).flatten(1).double()
            return head.score_rows(rows, head.prepared)  # type: ignore[attr-defined]

        moved = perturbed(distance, self._moved(x), self.eps / torch.tensor(self.norm_std or [1.0]))
        return super().predict(moved)


@dataclass(eq=False, repr=False)
class _ParameterGradients(GradientDetector):
    """A detector that scores the gradients of the parameters of a model, by default all.

    Parameters
    ----------
    model : Module
        Inputs to logits ``[B, C]``.
    param_filter : callable, optional
        Whether to use a parameter of a name.
    micro_batch_size : int
        Inputs whose gradients are in memory at a time.
    """

    model: nn.Module
    param_filter: Callable[[str], bool] | None = None
    micro_batch_size: int = 32

    def __post_init__(self) -> None:
        if self.model is None:
            raise ModelNotSetException()

    def loss(self, logits: Tensor) -> Tensor:
        """Return the loss of logits ``[1, C]``, a scalar."""
        raise NotImplementedError

    def measure(self, gradients: Tensor) -> Tensor:
        """Return a size of gradients ``[B, ...]`` of one parameter, ``[B]``."""
        raise NotImplementedError

    def predict(self, x: Tensor) -> Tensor:
        """Return the outlier scores ``[B]`` of inputs ``[B, ...]``."""
        with torch.inference_mode(False), torch.enable_grad():
            parts = self._moved(x).detach().clone().split(self.micro_batch_size)
            return -torch.cat(
                [sum(map(self.measure, self._gradients(part)), torch.zeros(())) for part in parts]
            )

    def _gradients(self, x: Tensor) -> Iterable[Tensor]:
        """Return the gradients of each parameter ``[B, ...]``."""
        keep, everything = self.param_filter, dict(self.model.named_parameters())
        chosen = {name: value.detach() for name, value in everything.items() if keep is None or keep(name)}
        if not chosen:
            raise UsageError("param_filter selects none of the model's parameters: " + ", ".join(everything))

        def loss(parameters: dict[str, Tensor], one: Tensor) -> Tensor:
            return self.loss(functional_call(self.model, parameters, (one[None],)))

        return [part.detach().flatten(1) for part in vmap(grad(loss), (None, 0))(chosen, x).values()]


@dataclass(eq=False, repr=False)
class GradNorm(_ParameterGradients):
    """Negated 1-norm of the gradient of the cross-entropy to the uniform distribution.

    The head ``gradnorm`` is that of the weight of the last layer, without a backward pass.

    References
    ----------
    Huang et al., On the Importance of Gradients for Detecting Distributional Shifts in the Wild, NeurIPS 2021.
    """

    temperature: float = 1.0

    def loss(self, logits: Tensor) -> Tensor:
        """Return the cross-entropy to the uniform distribution."""
        return -(logits / self.temperature).log_softmax(1).mean()

    def measure(self, gradients: Tensor) -> Tensor:
        """Return the 1-norms."""
        return gradients.abs().sum(1)


class GradUncertainty(_ParameterGradients):
    """Negated squared norm of the gradient of the binary cross-entropy of all classes.

    The head ``gradient-uncertainty`` is that of the last layer, without a backward pass.
    """

    def loss(self, logits: Tensor) -> Tensor:
        """Return the sum of the binary cross-entropies, that of ``-log p``."""
        return -logits.log_softmax(1).sum()

    def measure(self, gradients: Tensor) -> Tensor:
        """Return the squared norms."""
        return gradients.square().sum(1)


@dataclass(eq=False, repr=False)
class MCD(Detector):
    """Disagreement (``var``) of passes with dropout, or negated largest mean probability (``mean``).

    These are two scores of the head ``mc-dropout``. Only dropout layers are random: batch normalisation keeps its
    statistics. Every call draws the same.
    """

    model: nn.Module
    samples: int = 30
    mode: str = "var"

    def __post_init__(self) -> None:
        if self.mode not in ("var", "mean"):
            raise UsageError(f"mode is var or mean, not '{self.mode}'")

    def predict(self, x: Tensor) -> Tensor:
        """Return the outlier scores ``[B]`` or ``[B, H, W]`` of inputs."""
        largest, variance = self.run(self.model, self._moved(x), self.samples)
        return variance if self.mode == "var" else -largest

    @staticmethod
    def run(model: nn.Module, x: Tensor, samples: int) -> tuple[Tensor, Tensor]:
        """Return the largest mean probability and the mean variance over the classes.

        Raises
        ------
        UsageError
            If the model has no dropout.
        """
        if model is None:
            raise ModelNotSetException()
        with torch.no_grad(), dropping(model, 0.0), seeded(x.device, 0):
            draws = [model(x) for _ in range(samples)]
        rows = [as_rows(draw) for draw in draws]
        shape = (len(x), *draws[0].shape[2:])
        largest = mean_log_probabilities(rows).exp().amax(1)
        return largest.view(shape), probability_variance(rows).view(shape)


@dataclass(eq=False, repr=False)
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
    """

    requires_fit = True
    model: nn.Module
    layers: Sequence[nn.Module]
    m_bins: int | Sequence[int] = 50
    alpha: float | Sequence[float] = 100.0
    o_star: int | Sequence[int] = 50

    def __post_init__(self) -> None:
        self.heads_: list[Head] = []

    def fit(self, data_loader: Iterable[Any], device: str | torch.device | None = None) -> Self:
        """Count the states of the known inputs of a loader."""
        place, buffer = self._place(device), TensorBuffer()
        for x, _ in known_batches(data_loader, place):
            for layer, states in enumerate(self._states(x)):
                buffer.append(layer, states)
        self.heads_ = []
        options = zip(*map(self._each, (self.m_bins, self.alpha, self.o_star)), strict=True)
        for layer, (bins, alpha, count) in enumerate(options):
            states = buffer[layer]
            full = min(count / len(states), 1.0)
            head = create_head("nac", features=(STATES,), bins=bins, alpha=alpha, scale=1.0, full=full)
            self.heads_.append(head.fit(_as_set(states)))
        return self

    def predict(self, x: Tensor) -> Tensor:
        """Return the outlier scores ``[B]`` of inputs ``[B, ...]``."""
        if not self.heads_:
            raise RequiresFittingException()
        states = self._states(self._moved(x))
        scores = [head.score(_as_set(z.cpu())) for head, z in zip(self.heads_, states, strict=True)]
        return torch.stack(scores).sum(0).to(x.device if self.device is None else self.device)

    def _each(self, value: Any) -> list[Any]:
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


def _as_set(states: Tensor) -> FeatureSet:
    # the head asks for a classifier, which only a column without gradients needs
    return FeatureSet({STATES: states}, classifier=(torch.zeros(1, states.shape[1]), torch.zeros(1)))
