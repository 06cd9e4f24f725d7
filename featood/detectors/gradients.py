"""Detectors that differentiate a model by its inputs or parameters: higher means more out-of-distribution."""

from __future__ import annotations

__all__ = ["ODIN", "GradNorm", "GradUncertainty", "MahalanobisODIN", "odin_preprocessing"]

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from featood.detectors.base import GradientDetector, RequiresFittingException, given
from featood.detectors.batches import Model, apply_model, arguments, count, each, select_output, split
from featood.detectors.features import Mahalanobis
from featood.detectors.logits import MaxSoftmax
from featood.errors import UsageError
from featood.extractors.perturb import perturbed

Criterion = Callable[[Tensor, Tensor], Tensor]


def odin_preprocessing(
    model: Model,
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

    Raises
    ------
    UsageError
        If the inputs cannot be differentiated, such as token numbers.

    References
    ----------
    Liang et al., Enhancing the Reliability of Out-of-Distribution Image Detection in Neural Networks, ICLR 2018.
    """

    def loss(inputs: Tensor) -> Tensor:
        logits = apply_model(model, inputs) / temperature
        return (criterion or F.cross_entropy)(logits, logits.argmax(1) if y is None else y)

    return _perturbed(loss, x, eps, norm_std)


def _perturbed(
    loss: Callable[[Tensor], Tensor], x: Tensor, eps: float, norm_std: Sequence[float] | None
) -> Tensor:
    """Return inputs after a step that decreases a loss."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        raise UsageError(
            "only inputs that are one tensor of real numbers can be perturbed; if they are numbers of tokens, "
            "give a model that takes their embeddings"
        )
    return perturbed(loss, x, eps / torch.tensor(norm_std or [1.0]))


@dataclass(eq=False, repr=False)
class ODIN(GradientDetector, hyperparameters={"temperature": [1, 10, 100, 1000], "eps": [0.0014, 0.0028]}):
    """Negated largest tempered probability after a step towards the predicted class: column and head ``odin``.

    The arguments are those of :func:`odin_preprocessing`.

    Examples
    --------
    >>> import torch
    >>> from featood.detectors import ODIN
    >>> ODIN(torch.nn.Linear(8, 3), eps=0.01, temperature=100)(torch.rand(5, 8)).shape
    torch.Size([5])
    """

    model: Model | None
    criterion: Criterion | None = None
    eps: float = 0.0014
    temperature: float = 1000.0
    norm_std: Sequence[float] | None = None

    def predict(self, x: Any) -> Tensor:
        """Return the outlier scores ``[B]`` of inputs ``[B, ...]``."""
        model, options = given(self.model), (self.criterion, self.eps, self.temperature, self.norm_std)
        return MaxSoftmax(model, self.temperature)(odin_preprocessing(model, self._moved(x), None, *options))


@dataclass(eq=False, repr=False)
class MahalanobisODIN(Mahalanobis, GradientDetector):
    """:class:`Mahalanobis` of inputs after a step that decreases their distance."""

    eps: float = 0.002
    norm_std: Sequence[float] | None = None

    def predict(self, x: Any) -> Tensor:
        """Return the outlier scores ``[B]`` of inputs ``[B, ...]``."""
        head, encoder = self.head_, given(self.encoder, "encoder")
        if head is None:
            raise RequiresFittingException()

        def distance(inputs: Tensor) -> Tensor:
            rows = apply_model(encoder, inputs).flatten(1).double()
            return head.score_rows(rows, head.prepared)  # type: ignore[attr-defined]

        return super().predict(_perturbed(distance, self._moved(x), self.eps, self.norm_std))


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
        Inputs whose gradients are computed at a time. Models with recurrent layers, or with branches on values as in
        transformers, are differentiated input by input.
    """

    model: nn.Module
    param_filter: Callable[[str], bool] | None = None
    micro_batch_size: int = 32

    def __post_init__(self) -> None:
        given(self.model)

    def loss(self, logits: Tensor) -> Tensor:
        """Return the loss of logits ``[1, C]``, a scalar."""
        raise NotImplementedError

    def measure(self, gradients: Tensor) -> Tensor:
        """Return a size of gradients ``[B, ...]`` of one parameter, ``[B]``."""
        raise NotImplementedError

    def predict(self, x: Any) -> Tensor:
        """Return the outlier scores ``[B]`` of inputs ``[B, ...]``."""
        with torch.inference_mode(False), torch.enable_grad():
            parts = split(each(self._moved(x), _plain), self.micro_batch_size)
            return -torch.cat(
                [sum(map(self.measure, self._gradients(part)), torch.zeros(())) for part in parts]
            )

    def _gradients(self, x: Any) -> Iterable[Tensor]:
        """Return the gradients of each parameter ``[B, P]``."""
        keep, everything = self.param_filter, dict(self.model.named_parameters())
        chosen = {name: value.detach() for name, value in everything.items() if keep is None or keep(name)}
        if not chosen:
            raise UsageError("param_filter selects none of the model's parameters: " + ", ".join(everything))

        def loss(parameters: dict[str, Tensor], one: Any) -> Tensor:
            inputs = each(one, lambda values: values[None])
            outputs = functional_call(self.model, parameters, *arguments(self.model, inputs))
            return self.loss(select_output(outputs))

        try:
            found = vmap(grad(loss), (None, 0))(chosen, x)
        except RuntimeError:
            # recurrent layers, and branches on values as in transformers, cannot be vectorised
            rows = [grad(loss)(chosen, each(x, itemgetter(row))) for row in range(count(x))]
            found = {name: torch.stack([gradients[name] for gradients in rows]) for name in chosen}
        return [part.detach().flatten(1) for part in found.values()]


def _plain(values: Tensor) -> Tensor:
    """Return a copy that can be differentiated, also of a tensor of the inference mode."""
    return values.detach().clone()


@dataclass(eq=False, repr=False)
class GradNorm(_ParameterGradients):
    """Negated 1-norm of the gradient of the cross-entropy to the uniform distribution.

    The head ``gradnorm`` is that of the weight of the last layer, without a backward pass.

    References
    ----------
    Huang et al., On the Importance of Gradients for Detecting Distributional Shifts in the Wild, NeurIPS 2021.

    Examples
    --------
    >>> import torch
    >>> from featood.detectors import GradNorm
    >>> model = torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.ReLU(), torch.nn.Linear(4, 3))
    >>> GradNorm(model, param_filter=lambda name: name == "2.weight")(torch.rand(5, 8)).shape
    torch.Size([5])
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
